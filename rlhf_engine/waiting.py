"""What a run does before it may use the device: wait for its parents, then for the others."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pynvml

from rlhf_engine.job.spec import Spec, inputs
from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir, find_run
from rlhf_engine.runs.lock import Lock, owner
from rlhf_engine.runs.state import run_state
from rlhf_engine.runs.writer import StoreWriter

POLL_SECONDS = 0.5


class Cancelled(Exception):
    """A parent failed or was stopped, or a stop came before the run began."""


def wait_for_parents(
    run: RunDir, spec: Spec, store: StoreWriter, stopped: Callable[[], bool]
) -> None:
    """Return once every run that this one reads from is done.

    Raises Cancelled with the reason if one failed, was stopped or cancelled, or if this run was
    stopped while it waited. A lost parent can be resumed, so it is waited for.
    """
    for key in inputs(spec):
        parent = find_run(run.home, key)
        said = ""
        while (state := run_state(parent)).word != "done":
            if state.word in ("failed", "stopped", "cancelled"):
                reason = f": {state.detail}" if state.detail else ""
                raise Cancelled(f"its parent {parent.id} {_verb(state.word)}{reason}")
            said = _say(store, "waiting", f"waiting for {parent.id} ({state.word})", said)
            _wait(run, store, stopped)


def take_device(run: RunDir, device: str, store: StoreWriter, stopped: Callable[[], bool]) -> Lock:
    """Hold the device's lock, waiting for the run that has it; Cancelled if stopped meanwhile."""
    path = _lock_of(run, device)
    said = ""
    while (lock := Lock.take(path, run.id, patience=0.1)) is None:
        holder = owner(path) or "another run"
        said = _say(store, "queued", f"waiting for {device}, used by {holder}", said)
        _wait(run, store, stopped)
    return lock


def hold_device(run: RunDir, device: str) -> Lock:
    """Hold the lock of a further process's device; the first one reads commands meanwhile."""
    while (lock := Lock.take(_lock_of(run, device), run.id, patience=0.1)) is None:
        time.sleep(POLL_SECONDS)
    return lock


def _lock_of(run: RunDir, device: str) -> Path:
    return run.home / "devices" / f"{device.replace(':', '-')}.lock"


def device_name(wanted: str) -> str:
    """`auto` and `cuda` as a device that is there, else `cpu`; torch stays out.

    Of several processes that a launcher started each has a GPU of its own.
    """
    gpu = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    if wanted == "cuda":
        return gpu
    if wanted != "auto":
        return wanted
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return gpu if not hidden and _gpu_count() else "cpu"


def _gpu_count() -> int:
    try:
        pynvml.nvmlInit()
        count = int(pynvml.nvmlDeviceGetCount())
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return 0
    return count


def _verb(word: str) -> str:
    return word if word == "failed" else f"was {word}"


def _say(store: StoreWriter, status: str, text: str, said: str) -> str:
    if text != said:
        store.progress(status, status, text=text)  # type: ignore[arg-type]
    return text


def _wait(run: RunDir, store: StoreWriter, stopped: Callable[[], bool]) -> None:
    """Sleep a little; a stop takes effect here, other commands wait for the run to begin."""
    time.sleep(POLL_SECONDS)
    for command in inbox.pending(run.inbox):
        if command.kind == "stop":
            with store.transaction():
                store.command(command, "applied", 0)
            (run.inbox / f"{command.id}.json").unlink(missing_ok=True)
            raise Cancelled("it was stopped before it began")
    if stopped():
        raise Cancelled("it was ended before it began")
