"""The viewers' side of run.db: read-only, short reads, never in the engine's way."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

from rlhf_engine.runs.sample import Sample
from rlhf_engine.runs.schema import LIVE, SHOWN, STANDING

Decode = Callable[[str], Any]


@dataclass(frozen=True)
class Session:
    """One life of a run; `began` is start, resume, rollback or fork, empty in older stores."""

    id: int
    pid: int
    host: str
    started: float
    resumed_from_step: int | None
    ended: float | None
    outcome: str | None
    error: str | None
    began: str = ""


@dataclass(frozen=True, slots=True)
class StepRow:
    """A finished step; `knobs` are the values it ran with, `phases` seconds by phase, `memory`
    peak bytes by phase (empty in runs older than that measure)."""

    seq: int
    session: int
    step: int
    time: float
    metrics: dict[str, float]
    knobs: dict[str, float]
    phases: dict[str, float]
    memory: dict[str, float]

    def flat(self) -> dict[str, Any]:
        """One object a step, as `workbench metrics --json` prints it."""
        head = {"step": self.step, "time": self.time, "session": self.session}
        spent = {seconds_of(phase): seconds for phase, seconds in self.phases.items()}
        return head | self.knobs | self.metrics | spent

    def repeatable(self) -> dict[str, float]:
        """The figures and knobs that a repetition on the CPU gives bit for bit."""
        # Specs are slow to import, and viewers start without them.
        from rlhf_engine.job.metrics import CLOCKED

        figures = {k: v for k, v in self.metrics.items() if not k.endswith(CLOCKED)}
        return self.knobs | figures


@dataclass(frozen=True)
class SampleRow:
    seq: int
    session: int
    step: int
    sample: Sample


@dataclass(frozen=True)
class MeasuredRow:
    """Held-out figures that a person asked for after a step."""

    seq: int
    session: int
    step: int
    time: float
    metrics: dict[str, float]
    command_id: str


@dataclass(frozen=True)
class CommandRow:
    id: str
    kind: str
    body: dict[str, Any]
    client: str
    sent: float
    state: str
    session: int
    step: int
    applied: float
    note: str


@dataclass(frozen=True)
class KnobRow:
    seq: int
    session: int
    step: int
    time: float
    name: str
    old: float | None
    new: float
    source: str
    command_id: str


@dataclass(frozen=True)
class EventRow:
    """Something that happened; `data` is what a program needs of it, empty for most."""

    seq: int
    session: int
    step: int
    time: float
    level: str
    kind: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckpointRow:
    step: int
    session: int
    path: str
    time: float
    bytes: int


@dataclass(frozen=True)
class Progress:
    """What the engine does now: `status` waiting, queued, running or paused, and the phase."""

    session: int
    status: str
    phase: str
    done: float
    total: float | None
    unit: str
    text: str
    time: float


class StoreReader:
    """Reads a run at any time of its life; `open` gives None while there is no store yet."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    @classmethod
    def open(cls, path: Path) -> Self | None:
        try:
            uri = f"{path.resolve().as_uri()}?mode=ro"
            db = sqlite3.connect(
                uri, uri=True, isolation_level=None, timeout=5.0, check_same_thread=False
            )
            db.execute("SELECT 1 FROM progress LIMIT 1")
        except sqlite3.OperationalError:
            return None
        return cls(db)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def version(self) -> int:
        """A number that changes when the engine has written something."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def facts(self) -> dict[str, str]:
        """What is known of the run as a whole, such as `total_steps`."""
        return dict(self._db.execute("SELECT key, value FROM run"))

    def sessions(self) -> list[Session]:
        return [Session(*row) for row in self._db.execute("SELECT * FROM sessions ORDER BY id")]

    def progress(self) -> Progress | None:
        row = self._db.execute("SELECT * FROM progress").fetchone()
        return Progress(*row[1:]) if row else None

    def steps(self, after: int = 0) -> list[StepRow]:
        """Live steps in order, those written after the row `after`."""
        from pydantic_core import from_json

        sql = f"SELECT * FROM steps WHERE seq > ? AND {LIVE.format(table='steps')} ORDER BY step"
        # Fetched before they are decoded: while a read is open, the engine's log can only grow.
        rows = self._db.execute(sql, (after,)).fetchall()
        return _steps(rows, partial(from_json, cache_strings="keys"))

    def last_step(self) -> StepRow | None:
        sql = f"SELECT * FROM steps WHERE {LIVE.format(table='steps')} ORDER BY seq DESC LIMIT 1"
        row = self._db.execute(sql).fetchone()
        return _steps([row], json.loads)[0] if row else None

    def knobs_of_step(self, session: int, step: int) -> dict[str, float]:
        """The values that a step of a session ran with; empty if it is not there."""
        sql = "SELECT knobs FROM steps WHERE session = ? AND step = ?"
        row = self._db.execute(sql, (session, step)).fetchone()
        return _numbers(row[0], json.loads) if row else {}

    def samples(
        self, *, step: int | None = None, kind: str | None = None, after: int = 0, limit: int = 100
    ) -> list[SampleRow]:
        """Newest live samples first, at most `limit`."""
        sql = f"SELECT * FROM samples WHERE seq > ? AND {SHOWN}"
        values: list[Any] = [after]
        for column, wanted in (("step", step), ("kind", kind)):
            if wanted is not None:
                sql += f" AND {column} = ?"
                values.append(wanted)
        rows = self._db.execute(f"{sql} ORDER BY seq DESC LIMIT ?", (*values, limit)).fetchall()
        return [_sample(row) for row in rows]

    def sample(self, seq: int) -> SampleRow | None:
        """One sample with the figures of its tokens."""
        row = self._db.execute("SELECT * FROM samples WHERE seq = ?", (seq,)).fetchone()
        return _sample(row) if row else None

    def rows(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """What a query gives; for questions that have a module of their own."""
        return self._db.execute(sql, values).fetchall()

    def measured(self, after: int = 0) -> list[MeasuredRow]:
        """Figures of held-out data that people asked for, beside those of the steps themselves."""
        standing = STANDING.format(table="measured")
        sql = f"SELECT * FROM measured WHERE seq > ? AND {standing} ORDER BY seq"
        try:
            rows = self._db.execute(sql, (after,)).fetchall()
        except sqlite3.OperationalError:
            # A store that no engine has opened since there is such a table.
            return []
        return [
            MeasuredRow(seq, session, step, at, _numbers(metrics, json.loads), command)
            for seq, session, step, at, metrics, command in rows
        ]

    def commands(self) -> list[CommandRow]:
        rows = self._db.execute("SELECT * FROM commands ORDER BY id")
        return [_command(row) for row in rows]

    def command(self, command_id: str) -> CommandRow | None:
        row = self._db.execute("SELECT * FROM commands WHERE id = ?", (command_id,)).fetchone()
        return _command(row) if row else None

    def knobs(self, after: int = 0) -> list[KnobRow]:
        """Live knob changes in order; the first rows are the values of the spec."""
        sql = f"SELECT * FROM knobs WHERE seq > ? AND {LIVE.format(table='knobs')} ORDER BY seq"
        return [KnobRow(*row) for row in self._db.execute(sql, (after,))]

    def events(self, after: int = 0) -> list[EventRow]:
        rows = self._db.execute("SELECT * FROM events WHERE seq > ? ORDER BY seq", (after,))
        return [_event(row) for row in rows]

    def checkpoints(self) -> list[CheckpointRow]:
        rows = self._db.execute("SELECT * FROM checkpoints ORDER BY step, session")
        return [CheckpointRow(*row) for row in rows]


def seconds_of(phase: str) -> str:
    """What a phase's seconds are called among the figures of a step, such as `seconds_generate`."""
    return f"seconds_{phase.replace(' ', '_')}"


def _steps(rows: Iterable[Sequence[Any]], decode: Decode) -> list[StepRow]:
    found = []
    knobs: dict[str, float] = {}
    knobs_text = "{}"
    for seq, session, step, at, metrics, knobs_now, *rest in rows:
        if knobs_now != knobs_text:
            # Knobs rest for many steps: their rows share one table.
            knobs, knobs_text = _numbers(knobs_now, decode), knobs_now
        # A store that no engine has opened since memory is measured lacks the last column.
        phases, memory = (_numbers(text, decode) for text in (*rest, "{}")[:2])
        figures = _numbers(metrics, decode)
        found.append(StepRow(seq, session, step, at, figures, knobs, phases, memory))
    return found


def _sample(row: Sequence[Any]) -> SampleRow:
    return SampleRow(row[0], row[1], row[2], Sample.from_row(row[3:]))


def _event(row: Sequence[Any]) -> EventRow:
    # A store that no engine has opened since events carry data lacks the last column.
    seq, session, step, at, level, kind, text, data = (*row, "{}")[:8]
    return EventRow(seq, session, step, at, level, kind, text, json.loads(data))


def _command(row: Sequence[Any]) -> CommandRow:
    command_id, kind, body, client, sent, state, session, step, applied, note = row
    body = json.loads(body)
    return CommandRow(command_id, kind, body, client, sent, state, session, step, applied, note)


def _numbers(text: str, decode: Decode) -> dict[str, float]:
    numbers: dict[str, float] = decode(text)
    if "null" in text or "inf" in text:
        return {k: float("nan") if v is None else float(v) for k, v in numbers.items()}
    return numbers
