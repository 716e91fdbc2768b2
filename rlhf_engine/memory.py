"""The most memory that a span of work takes, on the device that does it."""

import resource
from pathlib import Path
from typing import Protocol

CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
# Written to clear_refs, this sets the kernel's high-water mark back to what is resident now.
RESET_HIGH_WATER = "5"


class PeakMemory(Protocol):
    """Bytes at their highest since the last `reset`."""

    def reset(self) -> None: ...

    def read(self) -> int: ...


class ProcessPeak:
    """Resident memory of the whole process: weights, libraries and interpreter.

    Where the kernel cannot set its mark back (macOS, a locked-down container), the mark of the
    process's whole life is given: then only a phase that takes more than those before it shows.
    """

    def reset(self) -> None:
        try:
            CLEAR_REFS.write_text(RESET_HIGH_WATER, encoding="ascii")
        except OSError:
            return

    def read(self) -> int:
        try:
            lines = STATUS.read_text(encoding="ascii").splitlines()
        except OSError:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        mark = next(line for line in lines if line.startswith("VmHWM:"))
        return int(mark.split()[1]) * 1024


class CudaPeak:
    """Memory that torch's allocator holds on a CUDA device; its context is not in it."""

    def __init__(self, device: str) -> None:
        self._device = device

    def reset(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats(self._device)

    def read(self) -> int:
        import torch

        return torch.cuda.max_memory_reserved(self._device)


def peak_memory(device: str) -> PeakMemory:
    """What measures `cpu` or `cuda:<n>`."""
    return ProcessPeak() if device == "cpu" else CudaPeak(device)
