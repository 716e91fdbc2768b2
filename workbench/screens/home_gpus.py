"""One line about the GPUs of this machine, from NVML; nothing where there are none."""

import functools
from contextlib import suppress
from typing import Any

GIB = 2**30


@functools.cache
def _handles() -> tuple[tuple[int, object], ...]:
    """The GPUs that can be asked, each with its number."""
    import pynvml

    found = []
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        return ()
    for index in range(count):
        with suppress(pynvml.NVMLError):
            found.append((index, pynvml.nvmlDeviceGetHandleByIndex(index)))
    return tuple(found)


def gpu_line() -> str:
    """Memory, use, temperature and power of each GPU, for example
    `GPU 0 RTX 4090  18.2/24.0 GiB  97%  71°C  402 W`; empty without one."""
    return "   ".join(_describe(index, handle) for index, handle in _handles())


def _describe(index: int, handle: object) -> str:
    import pynvml

    parts = []
    # Cards and virtual machines differ in what they tell, and a card can fall off the bus.
    for read in (_name, _memory, _use, _temperature, _power):
        with suppress(pynvml.NVMLError):
            parts.append(read(pynvml, handle))
    told = "  ".join(parts) if parts else "does not answer: workbench doctor"
    return f"GPU {index} {told}"


def _name(nvml: Any, handle: object) -> str:
    return str(nvml.nvmlDeviceGetName(handle)).removeprefix("NVIDIA ").removeprefix("GeForce ")


def _memory(nvml: Any, handle: object) -> str:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return f"{memory.used / GIB:.1f}/{memory.total / GIB:.1f} GiB"


def _use(nvml: Any, handle: object) -> str:
    return f"{nvml.nvmlDeviceGetUtilizationRates(handle).gpu}%"


def _temperature(nvml: Any, handle: object) -> str:
    return f"{nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)}°C"


def _power(nvml: Any, handle: object) -> str:
    return f"{nvml.nvmlDeviceGetPowerUsage(handle) / 1000:.0f} W"
