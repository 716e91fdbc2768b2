"""What this machine and terminal offer, and what to change: versions, device, memory, disk."""

import locale
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from workbench.signs import has_utf8

GIB = 2**30
NETWORK = re.compile(r"nfs\d?|cifs|smb\w*|9p|afs|ceph|lustre|gpfs|beegfs|glusterfs|fuse\.\w+")
TMUX_LINES = (
    'set -g default-terminal "tmux-256color"',
    'set -as terminal-features ",*:RGB"',
)
SILENT_GPU = "look at nvidia-smi; after a driver update restart the machine"
SCREEN_LINES = ("term screen-256color", "defutf8 on")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `level` says whether it serves, `advice` what to change."""

    level: Literal["ok", "warn", "bad"]
    what: str
    advice: str = ""


def examine(home: Path) -> list[Finding]:
    """Look at everything that decides whether runs and screens work here; imports no torch."""
    return [
        *versions(),
        *devices(),
        *memory(),
        *disk(home),
        file_system(home, Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")),
        *terminal(os.environ, sys.stdin.isatty() and sys.stdout.isatty()),
    ]


def versions() -> Iterator[Finding]:
    """Python, SQLite and every package that the project asks for."""
    yield Finding(
        "ok",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.system()} {platform.machine()}",
    )
    found, missing = [], []
    for requirement in metadata.requires("rlhf-workbench") or []:
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    yield Finding("ok", ", ".join(found))
    if missing:
        yield Finding(
            "bad", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}"
        )


def devices() -> Iterator[Finding]:
    """Each GPU with its memory; in words if there is none."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield Finding(
            "warn",
            f"no NVIDIA GPU can be used ({error}): runs use the CPU",
            "the small presets (demo, smoke) are made for it; for larger models install the driver",
        )
        return
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            yield _gpu(index)
    except pynvml.NVMLError as error:
        yield Finding("warn", f"the GPUs cannot be counted ({error})", SILENT_GPU)
    finally:
        pynvml.nvmlShutdown()
    if metadata.version("torch").endswith("+cpu"):
        yield Finding(
            "bad",
            "the installed torch is a CPU build: it does not see the GPU",
            "install a CUDA build of the same torch version",
        )


def _gpu(index: int) -> Finding:
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        use = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return Finding(
            "ok",
            f"cuda:{index} {pynvml.nvmlDeviceGetName(handle)}, {use.free / GIB:.1f} of "
            f"{use.total / GIB:.1f} GiB free, driver {pynvml.nvmlSystemGetDriverVersion()}",
        )
    except pynvml.NVMLError as error:
        return Finding("warn", f"cuda:{index} does not say what it has ({error})", SILENT_GPU)


def free_memory(device: str) -> int:
    """Bytes that are free now: on a GPU as NVML counts them, on the CPU in main memory."""
    import psutil
    import pynvml

    kind, _, index = device.partition(":")
    if kind == "cpu":
        return int(psutil.virtual_memory().available)
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(index or 0))
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).free)
    finally:
        pynvml.nvmlShutdown()


def memory() -> Iterator[Finding]:
    """Main memory: the base model passes through it, and on the CPU it stays there."""
    import psutil

    use = psutil.virtual_memory()
    told = (
        f"{use.available / GIB:.1f} of {use.total / GIB:.1f} GiB memory free, {os.cpu_count()} CPUs"
    )
    if use.available < 4 * GIB:
        yield Finding("warn", told, "the demo needs about 4 GiB; close something large")
    else:
        yield Finding("ok", told)


def disk(home: Path) -> Iterator[Finding]:
    """Free space where the runs are written."""
    free = shutil.disk_usage(home).free / GIB
    told = f"{free:.1f} GiB free for runs at {home}"
    if free < 1:
        yield Finding("bad", told, "free some space, or choose another folder with --home")
    elif free < 10:
        yield Finding("warn", told, "checkpoints of larger models take several GiB a run")
    else:
        yield Finding("ok", told)


def file_system(home: Path, mounts: str) -> Finding:
    """Whether the home is on a local disk; `mounts` is the text of /proc/mounts."""
    best, kind = Path("/"), "unknown"
    for line in mounts.splitlines():
        _, point, of_kind, *_ = line.split(" ")
        # The kernel writes blanks in a mount point as \040.
        path = Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), point))
        if home.is_relative_to(path) and len(path.parts) >= len(best.parts):
            best, kind = path, of_kind
    if NETWORK.fullmatch(kind):
        return Finding(
            "warn",
            f"the home is on a network file system ({kind} at {best})",
            "SQLite and file locks are not safe there from two machines; set WORKBENCH_HOME to a "
            "folder on a local disk",
        )
    return Finding("ok", f"the home is on a local file system ({kind} at {best})")


def terminal(environ: Mapping[str, str], is_terminal: bool) -> Iterator[Finding]:
    """Whether the screens can be drawn: a terminal, its size, its colours, UTF-8."""
    if not is_terminal:
        yield Finding("warn", "no terminal here: the screens need one", "use the verbs, or ssh -t")
        return
    size = shutil.get_terminal_size()
    told = f"terminal of {size.columns}x{size.lines}"
    if size.columns < 60 or size.lines < 16:
        yield Finding("bad", told, "the screens need at least 60x16")
    elif size.columns < 80 or size.lines < 24:
        yield Finding("warn", told, "the screens show more from 80x24 on")
    else:
        yield Finding("ok", told)
    yield colours(environ)
    yield signs(environ, has_utf8(), _tmux_passes_utf8(environ))


def signs(environ: Mapping[str, str], utf8: bool, through_tmux: bool) -> Finding:
    """Whether braille and boxes reach the terminal, and what to change where they do not."""
    in_ascii = 'write signs = "ascii" into settings.toml in the home folder'
    if not utf8:
        told = f"no UTF-8 ({locale.getencoding()}): charts, bars and borders are drawn in ASCII"
        return Finding("warn", told, "export LC_ALL=C.UTF-8")
    if not through_tmux:
        return Finding("warn", "tmux shows `_` for what is not ASCII", f"tmux -u; or {in_ascii}")
    if environ.get("TERM") == "linux":
        return Finding("warn", "the console has no braille signs", in_ascii)
    return Finding("ok", "UTF-8: charts are drawn with braille signs")


def _tmux_passes_utf8(environ: Mapping[str, str]) -> bool:
    """Whether the terminal around tmux gets UTF-8; True without tmux."""
    if not environ.get("TMUX"):
        return True
    try:
        asked = subprocess.run(
            ["tmux", "display-message", "-p", "#{client_utf8}"],
            capture_output=True,
            text=True,
            timeout=2,
        )
    except (OSError, subprocess.TimeoutExpired):
        return True
    return asked.stdout.strip() != "0"


def colours(environ: Mapping[str, str]) -> Finding:
    """How many colours the terminal says it has, and how to get them all."""
    term = environ.get("TERM", "")
    told = f"TERM={term} COLORTERM={environ.get('COLORTERM', '')}"
    if environ.get("NO_COLOR"):
        return Finding("ok", f"{told}: no colours, as NO_COLOR asks")
    if term in ("", "dumb", "unknown"):
        return Finding("bad", f"{told}: cannot place the cursor", "export TERM=xterm-256color")
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return Finding("ok", f"{told}: all colours")
    count = "256" if "256color" in term else "16"
    if environ.get("STY"):
        advice = f"add to ~/.screenrc: {' and '.join(SCREEN_LINES)}"
    elif environ.get("TMUX"):
        advice = f"add to ~/.tmux.conf: {' and '.join(TMUX_LINES)}; then export COLORTERM=truecolor"
    else:
        advice = "if your terminal has true colour: export COLORTERM=truecolor"
    return Finding("warn", f"{told}: {count} colours", advice)
