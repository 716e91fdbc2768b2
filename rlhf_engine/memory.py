"""The most memory that a span of work takes, on the device that does it."""

import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import Protocol

CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
# Written to clear_refs, this sets the kernel's high-water mark back to what is resident now.
RESET_HIGH_WATER = "5"
# Torch asks glibc for aligned blocks. The slivers cut off at their ends go to per-thread and fast
# lists, which never grow together with a freed block, so that its hole is too small for the next
# block of the same size: a training pass then holds twice its tensors. Without these lists freed
# blocks become whole again, at no cost in time. glibc reads this when a process starts.
TUNABLES = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"

# Where a person says how torch's CUDA allocator works, the second by its old name.
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def compact_heap() -> None:
    """Start this process again, once, with a heap in which freed tensors leave room for others."""
    known = os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform == "linux" and TUNABLES not in known:
        tunables = ":".join(filter(None, (known, TUNABLES)))
        environment = os.environ | {"GLIBC_TUNABLES": tunables}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def expand_segments() -> None:
    """Let torch's CUDA allocator, once it is imported, grow what it holds instead of adding to it.

    A key-value cache is a little longer at every token: the holes that it leaves behind fit no
    longer one, so that several times its size would stay reserved.
    """
    if not any(name in os.environ for name in ALLOCATOR):
        os.environ[ALLOCATOR[0]] = "expandable_segments:True"


class PeakMemory(Protocol):
    """Bytes at their highest since the last `reset`; `read` waits for the work to be done."""

    def reset(self) -> None: ...

    def read(self) -> int: ...


class ProcessPeak:
    """Resident memory of the whole process: weights, libraries and interpreter.

    Where the kernel cannot set its mark back (macOS, a locked-down container), the mark of the
    process's whole life is given: then only a phase that takes more than those before it shows.
    """

    def reset(self) -> None:
        _give_back()
        try:
            CLEAR_REFS.write_text(RESET_HIGH_WATER, encoding="ascii")
        except OSError:
            return

    def read(self) -> int:
        try:
            lines = STATUS.read_text(encoding="ascii").splitlines()
        except OSError:
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        mark = next(line for line in lines if line.startswith("VmHWM:"))
        return int(mark.split()[1]) * 1024


def _give_back() -> None:
    """Hand what the heap has free to the kernel, so that it is not counted as the next phase's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class CudaPeak:
    """Memory that torch's allocator holds on a CUDA device; the device's context is not in it."""

    def __init__(self, device: str) -> None:
        self._device = device

    def reset(self) -> None:
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def read(self) -> int:
        import torch

        # The work that was asked for counts once it is done.
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_reserved(self._device)


def peak_memory(device: str) -> PeakMemory:
    """What measures `cpu` or `cuda:<n>`."""
    return ProcessPeak() if device == "cpu" else CudaPeak(device)


def free_bytes(device: str) -> int:
    """What a CUDA device has left, and what torch holds of it without using it."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
