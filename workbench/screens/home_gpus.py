"""One line about the GPUs of this machine, from NVML; nothing where there are none."""

import functools
from typing import Any

GIB = 2**30


@functools.cache
def _handles() -> tuple[object, ...]:
    import pynvml

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        return ()
    return tuple(pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count))


def gpu_line() -> str:
    """Memory, use, temperature and power of each GPU, for example
    `GPU 0 RTX 4090  18.2/24.0 GiB  97%  71°C  402 W`; empty without one."""
    return "   ".join(_describe(index, handle) for index, handle in enumerate(_handles()))


def _describe(index: int, handle: object) -> str:
    import pynvml

    name = str(pynvml.nvmlDeviceGetName(handle)).removeprefix("NVIDIA ").removeprefix("GeForce ")
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    parts = [f"GPU {index} {name}", f"{memory.used / GIB:.1f}/{memory.total / GIB:.1f} GiB"]
    # Cards and virtual machines differ in what they tell.
    for read in (_use, _temperature, _power):
        try:
            parts.append(read(pynvml, handle))
        except pynvml.NVMLError:
            continue
    return "  ".join(parts)


def _use(nvml: Any, handle: object) -> str:
    return f"{nvml.nvmlDeviceGetUtilizationRates(handle).gpu}%"


def _temperature(nvml: Any, handle: object) -> str:
    return f"{nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)}°C"


def _power(nvml: Any, handle: object) -> str:
    return f"{nvml.nvmlDeviceGetPowerUsage(handle) / 1000:.0f} W"
