"""The engine process: `python -m rlhf_engine RUN_DIR` does one run, from wherever it stands."""

import faulthandler
import os
import signal
import sqlite3
import sys
import traceback
from pathlib import Path

import setproctitle

from rlhf_engine.commands import Desk
from rlhf_engine.fitting import out_of_memory
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.remedies import remedies
from rlhf_engine.job.spec import Spec
from rlhf_engine.memory import compact_heap, expand_segments
from rlhf_engine.progress import log
from rlhf_engine.runs.checkpoints import Found, newest_sound, remove_after, remove_parts, set_aside
from rlhf_engine.runs.directory import RunDir, RunNotFound
from rlhf_engine.runs.lock import Lock, engine_text
from rlhf_engine.runs.writer import Outcome, StoreWriter
from rlhf_engine.waiting import Cancelled, device_name, take_device, wait_for_parents

# Stages whose steps depend on nothing before them go on after the last committed step.
STATELESS = ("collect", "evaluate")


def main() -> int:
    os.umask(0o077)
    # By default threads spin so long at a barrier that training slows down tenfold once anything
    # else, such as a viewer, wants a core; not spinning at all costs two thirds more time. Torch
    # reads this when it is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    expand_segments()
    faulthandler.enable()
    run = RunDir(Path(sys.argv[1]).resolve())
    setproctitle.setproctitle(f"rlhf-engine {run.id}")
    if int(os.environ.get("RANK", 0)) > 0:
        return _assist(run)
    lock = Lock.inherited(run.lock) or Lock.take(run.lock, "")
    if lock is None:
        print(f"{run.id} is running already", file=sys.stderr)  # noqa: T201
        return 1
    lock.write(engine_text(os.getpid()))
    lock.beat()

    def trouble(text: str) -> None:
        """Say why the store cannot be written where that needs no room: the lock, the log."""
        lock.write(engine_text(os.getpid(), text))
        log(text or "the store can be written again")

    try:
        store = StoreWriter(run.store, trouble)
    except sqlite3.Error as error:
        log(f"{run.store} cannot be opened: {error}; free some space, or see whose file it is")
        return 1
    try:
        return _session(run, store)
    finally:
        store.close()


def _assist(run: RunDir) -> int:
    """One of several processes (`torchrun`, `accelerate launch`) whose first one does the rest."""
    # The first process ends after its step, and says so.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    from rlhf_engine.work import assist

    spec = run.spec()
    assist(run, spec, device_name(spec.device))
    return 0


def _session(run: RunDir, store: StoreWriter) -> int:
    """One life of the run: find where it stands, go on, and say how it ended."""
    first = not store.query("SELECT 1 FROM sessions LIMIT 1")
    try:
        spec = run.spec()
    except SpecError as reason:
        last = store.last_step(to_redo=True)
        store.start_session(None if first else last, "start" if first else "resume")
        return _ended(store, last, "failed", str(reason))
    remove_parts(run.checkpoints)
    found = _where(run, spec, store)
    if not first:
        store.start_session(found.step, "resume")
        store.event(found.step, "info", "resume", f"resumed after step {found.step}")
    elif spec.fork is None:
        store.start_session(None)
    else:
        store.start_session(found.step, "fork")
    for fault in found.damaged.values():
        store.event(found.step, "warn", "checkpoint", f"{fault}; going on from step {found.step}")
    try:
        if found.step < spec.begins_after:
            raise SpecError(_no_fork(spec, found))
        _forget_damaged(run, store, found)
        outcome, error = _work(run, spec, store, found), ""
    except Cancelled as reason:
        outcome, error = "cancelled", str(reason)
    except Exception as fault:
        traceback.print_exc()
        outcome, error = "failed", _explained(fault, run)
    return _ended(store, store.last_step() or found.step, outcome, error)


def _ended(store: StoreWriter, step: int, outcome: Outcome, error: str) -> int:
    with store.transaction():
        store.event(
            step,
            "error" if outcome == "failed" else "info",
            outcome,
            error or f"{outcome} at step {step}",
        )
        store.end_session(outcome, error)
    return 0 if outcome in ("done", "stopped") else 1


def _work(run: RunDir, spec: Spec, store: StoreWriter, found: Found) -> Outcome:
    desk = Desk(spec, store, run.inbox)
    _listen(desk)
    store.give_up = lambda: desk.stop_asked
    store.progress("waiting", "starting")
    wait_for_parents(run, spec, store, lambda: desk.stop_asked)
    device = device_name(spec.device)
    take_device(run, device, store, lambda: desk.stop_asked)
    store.set_fact("device", device)
    store.progress("running", "loading libraries")
    from rlhf_engine.work import work

    return work(run, spec, store, desk, found, device)


def _where(run: RunDir, spec: Spec, store: StoreWriter) -> Found:
    last = max(store.last_step(to_redo=True), spec.begins_after)
    if spec.stage in STATELESS:
        return Found(last, None)
    if store.query("SELECT 1 FROM sessions WHERE began = 'rollback' LIMIT 1"):
        # What a kill left behind in the midst of a rollback: no step after the last one stands.
        remove_after(run.checkpoints, last)
    known = [step for (step,) in store.query("SELECT step FROM checkpoints")]
    return newest_sound(run.checkpoints, last, known)


def _forget_damaged(run: RunDir, store: StoreWriter, found: Found) -> None:
    set_aside(run.checkpoints, found.damaged)
    with store.transaction():
        for step in found.damaged:
            store.forget_checkpoint(step)


def _no_fork(spec: Spec, found: Found) -> str:
    assert spec.fork is not None, "only a fork begins after step 0"
    faults = "; ".join(found.damaged.values()) or "it is missing"
    return (
        f"the checkpoint of step {spec.fork.step} that this run was forked from cannot be used: "
        f"{faults}; fork again: workbench fork {spec.fork.run} --step {spec.fork.step}"
    )


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
    if out_of_memory(fault):
        return f"out of memory; the cheapest remedies: {', '.join(remedies(run.spec()))}"
    text = str(fault).splitlines() or ["no message"]
    return f"{type(fault).__name__}: {text[0]}; see {run.log.name}"


if __name__ == "__main__":
    compact_heap()
    sys.exit(main())
