"""A stand-in for NVIDIA's library, whose figures can be refused one by one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pynvml


@dataclass
class FakeNvml:
    """Two GPUs; what is named in `refused` cannot be asked, as on some cards and machines."""

    refused: set[object] = field(default_factory=set)
    NVMLError: type[Exception] = pynvml.NVMLError
    NVML_TEMPERATURE_GPU: int = 0

    def __getattr__(self, name: str) -> Callable[..., object]:
        answers: dict[str, object] = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlDeviceGetCount": 2,
            "nvmlDeviceGetHandleByIndex": "handle",
            "nvmlDeviceGetName": "NVIDIA GeForce RTX 4090",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=6 * 2**30, free=2**31, total=2**33),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97),
            "nvmlDeviceGetTemperature": 71,
            "nvmlDeviceGetPowerUsage": 402_000,
            "nvmlSystemGetDriverVersion": "580.1",
        }
        if name not in answers:
            raise AttributeError(name)

        def asked(*args: object) -> object:
            if name in self.refused or (name, *args) in self.refused:
                raise self.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return answers[name]

        return asked
