"""The state of a run in one word, from its lock and its store."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.lock import SILENT_SECONDS, is_held, silent_for, trouble
from rlhf_engine.runs.reader import Progress, Session, StepRow, StoreReader

ENDED = ("done", "failed", "stopped", "cancelled", "lost")
# A launch makes all runs of a pipeline before it starts their engines.
STARTING_SECONDS = 15.0


@dataclass(frozen=True)
class RunState:
    """`word` is one of starting, waiting, queued, running, paused, not responding, done, failed,
    stopped, cancelled, lost; `detail` says why or what it does now."""

    word: str
    detail: str = ""
    step: int = 0
    total: int | None = None

    @property
    def ended(self) -> bool:
        return self.word in ENDED

    @property
    def resumable(self) -> bool:
        return self.word in ("failed", "stopped", "cancelled", "lost")


def run_state(run: RunDir) -> RunState:
    """Read the state of a run; costs a few short reads."""
    alive = is_held(run.lock)
    reader = StoreReader.open(run.store)
    if reader is None:
        return state_without_store(run, alive)
    with reader:
        sessions, progress, last = reader.sessions(), reader.progress(), reader.last_step()
        facts = reader.facts()
    return state_from(run, alive, sessions[-1] if sessions else None, progress, last, facts)


def state_from(
    run: RunDir,
    alive: bool,
    session: Session | None,
    progress: Progress | None,
    last: StepRow | None,
    facts: Mapping[str, str],
) -> RunState:
    """The state of a run from what its store says, read after `alive` was."""
    total = int(facts["total_steps"]) if facts.get("total_steps") else None
    resumed = session.resumed_from_step if session else None
    step = last.step if last else resumed or 0
    if alive:
        silence = silent_for(run.lock)
        if silence > SILENT_SECONDS:
            return RunState("not responding", f"no sign for {silence:.0f} s", step, total)
        if reason := trouble(run.lock):
            return RunState("paused", reason, step, total)
        if session is None or session.ended or progress is None:
            return RunState("starting", "the engine is starting", step, total)
        return RunState(progress.status, progress.text or progress.phase, step, total)
    if session and session.outcome:
        return RunState(session.outcome, session.error or "", step, total)
    return RunState("lost", f"the engine ended at step {step} without a word", step, total)


def state_without_store(run: RunDir, alive: bool) -> RunState:
    """The state of a run that has no store to read."""
    if alive or _just_made(run):
        return RunState("starting", "the engine is starting")
    return RunState("lost", "the engine never started; see its log")


def _just_made(run: RunDir) -> bool:
    """Whether whoever makes the run may still be about to start its engine."""
    age = time.time() - run.spec_file.stat().st_mtime
    return not run.log.exists() and age < STARTING_SECONDS
