"""The viewer's side of a run's store: polled in a thread, one immutable snapshot per change."""

import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.inbox import Command
from rlhf_engine.runs.lock import is_held
from rlhf_engine.runs.reader import (
    CheckpointRow,
    CommandRow,
    EventRow,
    KnobRow,
    MeasuredRow,
    Progress,
    SampleRow,
    Session,
    StepRow,
    StoreReader,
)
from rlhf_engine.runs.state import RunState, state_from, state_without_store
from workbench.unreadable import DELETED, UNREADABLE, cannot_read

POLL_SECONDS = 0.25
# As many as the table of the newest ones shows.
SAMPLES_KEPT = 50


def redraw_seconds() -> float:
    """How often a screen may draw what is new: over ssh every redraw costs bandwidth."""
    return 1.0 if "SSH_CONNECTION" in os.environ else 0.5


@dataclass(frozen=True)
class Snapshot:
    """Everything a screen shows of a run at one moment.

    `generation` changes when earlier steps became history, so that what was derived from them
    must be made anew; otherwise `steps` only grows at its end. `problem` says in words why the
    run cannot be read now.
    """

    state: RunState
    generation: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    sessions: tuple[Session, ...] = ()
    progress: Progress | None = None
    phase_start: Progress | None = None
    steps: tuple[StepRow, ...] = ()
    measured: tuple[MeasuredRow, ...] = ()
    samples: tuple[SampleRow, ...] = ()
    changes: tuple[KnobRow, ...] = ()
    commands: tuple[CommandRow, ...] = ()
    pending: tuple[Command, ...] = ()
    events: tuple[EventRow, ...] = ()
    checkpoints: tuple[CheckpointRow, ...] = ()
    problem: str = ""

    @property
    def phase_seconds_left(self) -> float | None:
        """What the phase still takes at its pace so far; None while there is no pace."""
        start, now = self.phase_start, self.progress
        if start is None or now is None or now.total is None or now.done <= start.done:
            return None
        return (now.time - start.time) / (now.done - start.done) * (now.total - now.done)

    @property
    def last(self) -> StepRow | None:
        return self.steps[-1] if self.steps else None

    def is_history(self, event: EventRow) -> bool:
        """Whether a later session went on from before the event."""
        return any(
            later.id > event.session
            and later.resumed_from_step is not None
            and later.resumed_from_step < event.step
            for later in self.sessions
        )

    def acknowledged(self, command_id: str) -> CommandRow | None:
        """What the run answered to a command."""
        return next((row for row in self.commands if row.id == command_id), None)


class RunFeed:
    """Reads one run again and again, each time only the rows that are new."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._reader: StoreReader | None = None
        self._version = -1
        self._now = Snapshot(RunState("starting"))

    def follow(self, tell: Callable[[Snapshot], object], stop: threading.Event) -> None:
        """Tell each change until `stop` is set; runs in a thread of its own."""
        told: Snapshot | None = None
        try:
            while not stop.is_set():
                if (now := self.look()) is not told:
                    tell(now)
                    told = now
                stop.wait(POLL_SECONDS)
        finally:
            self.close()

    def look(self) -> Snapshot:
        """The run as it is now; the snapshot of before if nothing has changed."""
        if not self._run.spec_file.exists():
            return self._failed(DELETED, "the run was deleted; q goes back")
        try:
            pending = tuple(inbox.pending(self._run.inbox))
            # Before the store is read: an engine that ends in between has said so there.
            alive = is_held(self._run.lock)
            self._open()
            if self._reader is not None and (version := self._reader.version()) != self._version:
                self._now = self._load(self._reader)
                self._version = version
            state = self._state(alive)
        except (sqlite3.Error, OSError, ValueError) as error:
            return self._failed(UNREADABLE, cannot_read(error), str(error))
        if (state, pending, "") != (self._now.state, self._now.pending, self._now.problem):
            self._now = replace(self._now, state=state, pending=pending, problem="")
        return self._now

    def _failed(self, word: str, problem: str, detail: str = "") -> Snapshot:
        """What was read before, with the words for why there is no more."""
        self.close()
        state = replace(self._now.state, word=word, detail=detail)
        if (state, problem) != (self._now.state, self._now.problem):
            self._now = replace(self._now, state=state, problem=problem)
        return self._now

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader, self._version = None, -1

    def _open(self) -> None:
        if self._reader is None:
            self._reader = StoreReader.open(self._run.store)

    def _state(self, alive: bool) -> RunState:
        """The state from what was read already: opening the store anew is most of a look."""
        if self._reader is None:
            return state_without_store(self._run, alive)
        now = self._now
        session = now.sessions[-1] if now.sessions else None
        return state_from(self._run, alive, session, now.progress, now.last, now.facts)

    def _load(self, reader: StoreReader) -> Snapshot:
        before = self._now
        sessions = tuple(reader.sessions())
        grown = [session.id for session in sessions] == [session.id for session in before.sessions]
        if not grown:
            before = Snapshot(before.state, before.generation + 1, pending=before.pending)
        progress = reader.progress()
        samples = reader.samples(after=_newest(before.samples[:1]), limit=SAMPLES_KEPT)
        return replace(
            before,
            facts=reader.facts(),
            sessions=sessions,
            progress=progress,
            phase_start=_phase_start(before.phase_start, progress),
            steps=before.steps + tuple(reader.steps(_newest(before.steps[-1:]))),
            measured=before.measured + tuple(reader.measured(_newest(before.measured[-1:]))),
            samples=(*samples, *before.samples)[:SAMPLES_KEPT],
            changes=before.changes + tuple(reader.knobs(_newest(before.changes[-1:]))),
            commands=tuple(reader.commands()),
            events=before.events + tuple(reader.events(_newest(before.events[-1:]))),
            checkpoints=tuple(reader.checkpoints()),
        )


def _phase_start(start: Progress | None, now: Progress | None) -> Progress | None:
    """Where the phase of `now` was first seen; a new phase, or one begun again, starts at `now`."""
    if start is None or now is None:
        return now
    same = (start.session, start.status, start.phase, start.total) == (
        (now.session, now.status, now.phase, now.total)
    )
    return start if same and now.done >= start.done else now


def _newest(rows: tuple[StepRow | MeasuredRow | SampleRow | KnobRow | EventRow, ...]) -> int:
    return rows[0].seq if rows else 0
