"""The engine process: `python -m rlhf_engine RUN_DIR` does one run, from wherever it stands."""

import faulthandler
import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

import setproctitle

from rlhf_engine.checkpoint import Found, newest_sound
from rlhf_engine.commands import Desk
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.spec import Spec
from rlhf_engine.memory import compact_heap
from rlhf_engine.runs.directory import RunDir, RunNotFound
from rlhf_engine.runs.lock import Lock
from rlhf_engine.runs.writer import Outcome, StoreWriter
from rlhf_engine.waiting import Cancelled, device_name, take_device, wait_for_parents

# Stages whose steps depend on nothing before them go on after the last committed step.
STATELESS = ("collect", "evaluate")


def main() -> int:
    compact_heap()
    os.umask(0o077)
    # By default threads spin so long at a barrier that training slows down tenfold once anything
    # else, such as a viewer, wants a core; not spinning at all costs two thirds more time. Torch
    # reads this when it is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    faulthandler.enable()
    run = RunDir(Path(sys.argv[1]).resolve())
    setproctitle.setproctitle(f"rlhf-engine {run.id}")
    about = {"pid": os.getpid(), "host": socket.gethostname()}
    lock = Lock.take(run.lock, json.dumps(about))
    if lock is None:
        print(f"{run.id} is running already", file=sys.stderr)  # noqa: T201
        return 1
    lock.beat()
    store = StoreWriter(run.store)
    try:
        return _session(run, store)
    finally:
        store.close()


def _session(run: RunDir, store: StoreWriter) -> int:
    """One life of the run: find where it stands, go on, and say how it ended."""
    first = not store.query("SELECT 1 FROM sessions LIMIT 1")
    spec = run.spec()
    found = _where(run, spec, store)
    store.start_session(None if first else found.step)
    for fault in found.damaged:
        store.event(found.step, "warn", "checkpoint", f"{fault}; going on from step {found.step}")
    if not first:
        store.event(found.step, "info", "resume", f"resumed after step {found.step}")
    try:
        outcome, error = _work(run, spec, store, found), ""
    except Cancelled as reason:
        outcome, error = "cancelled", str(reason)
    except Exception as fault:
        traceback.print_exc()
        outcome, error = "failed", _explained(fault, run)
    with store.transaction():
        last = store.query("SELECT max(step) FROM steps")[0][0] or 0
        store.event(
            last,
            "error" if outcome == "failed" else "info",
            outcome,
            error or f"{outcome} at step {last}",
        )
        store.end_session(outcome, error)
    return 0 if outcome in ("done", "stopped") else 1


def _work(run: RunDir, spec: Spec, store: StoreWriter, found: Found) -> Outcome:
    desk = Desk(spec, store, run.inbox)
    _listen(desk)
    store.progress("waiting", "starting")
    wait_for_parents(run, spec, store, lambda: desk.stop_asked)
    device = device_name(spec.device)
    take_device(run, device, store, lambda: desk.stop_asked)
    store.set_fact("device", device)
    store.progress("running", "loading libraries")
    from rlhf_engine.work import work

    return work(run, spec, store, desk, found, device)


def _where(run: RunDir, spec: Spec, store: StoreWriter) -> Found:
    last = store.query("SELECT max(step) FROM steps")[0][0] or 0
    return Found(last, None) if spec.stage in STATELESS else newest_sound(run.checkpoints, last)


def _listen(desk: Desk) -> None:
    """The first SIGTERM (or ctrl+c) ends the run after its step, a second one at once."""

    def ask(number: int, _: object) -> None:
        if desk.stop_asked:
            os._exit(128 + number)
        desk.stop_asked = True

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)


def _explained(fault: Exception, run: RunDir) -> str:
    """The reason of a failure for a person: our own errors say it, others name the log."""
    from rlhf_engine.data.errors import DataError

    if isinstance(fault, SpecError | DataError | RunNotFound):
        return str(fault)
    if type(fault).__name__ == "OutOfMemoryError":
        return "out of GPU memory: lower micro_batch_size or sampling.batch_size, or use nf4"
    text = str(fault).splitlines() or ["no message"]
    return f"{type(fault).__name__}: {text[0]}; see {run.log.name}"


if __name__ == "__main__":
    sys.exit(main())
