"""The engine's side of run.db: the only writer there is."""

import json
import math
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from rlhf_engine.runs.inbox import Command
from rlhf_engine.runs.sample import Sample
from rlhf_engine.runs.schema import ADDED, LIVE, SCHEMA, STANDING, VERSION

Outcome = Literal["done", "failed", "stopped", "cancelled"]
Began = Literal["start", "resume", "rollback", "fork"]
Status = Literal["waiting", "queued", "running", "paused"]
Level = Literal["info", "warn", "error"]

RETRY_SECONDS = 2.0
NOTHING: Mapping[str, int] = MappingProxyType({})
# What SQLite says of a disk that takes no more: full, over a quota or limit, failing, read-only.
UNWRITABLE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)


class StoreWriter:
    """Writes one session of a run; everything inside `transaction` lands together or not at all.

    Where the disk takes no more, a write waits and tries again until it does, so that nothing is
    lost; `trouble` is told why, and with an empty text that it is over. Once `give_up` holds, the
    error is raised instead.
    """

    def __init__(self, path: Path, trouble: Callable[[str], object] = print) -> None:
        self.give_up: Callable[[], bool] = lambda: False
        self._trouble = trouble
        self._path = path
        self._batch: list[tuple[str, tuple[Any, ...]]] | None = None
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30.0)
        self._db.execute("PRAGMA journal_mode = WAL")
        # A command's file is unlinked after the commit that took it up: the commit must last.
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(SCHEMA)
        for table, columns in ADDED.items():
            known = {row[1] for row in self._db.execute(f"PRAGMA table_info({table})")}
            for name in columns.keys() - known:
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {columns[name]}")
        self.session = 0
        self.set_fact("schema_version", str(VERSION))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep what is written inside until the end: `query` does not see it before."""
        batch = self._batch = []
        try:
            yield
        finally:
            self._batch = None
        self._land(batch)

    def _put(self, sql: str, *values: Any) -> None:
        if self._batch is None:
            self._land([(sql, values)])
        else:
            self._batch.append((sql, values))

    def _land(self, batch: list[tuple[str, tuple[Any, ...]]]) -> None:
        waited = False
        while True:
            try:
                self._commit(batch)
                break
            except sqlite3.OperationalError as error:
                if not _unwritable(error) or self.give_up():
                    raise
                if not waited:
                    self._trouble(f"{self._path} cannot be written ({error}): free some space")
            waited = True
            time.sleep(RETRY_SECONDS)
        if waited:
            self._trouble("")

    def _commit(self, batch: list[tuple[str, tuple[Any, ...]]]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for sql, values in batch:
                self._db.execute(sql, values)
            self._db.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after most errors of the disk.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._db.close()

    def set_fact(self, key: str, value: str) -> None:
        """Remember one fact of the run, such as its total number of steps."""
        self._put("INSERT OR REPLACE INTO run VALUES (?, ?)", key, value)

    def start_session(self, resumed_from_step: int | None, began: Began = "start") -> None:
        """Open a session of this process; rows of earlier ones past that step become history."""
        if self.session:
            self._put(
                "UPDATE sessions SET ended = ?, outcome = ? WHERE id = ?",
                *(time.time(), began, self.session),
            )
        self.session = 1 + (self.query("SELECT max(id) FROM sessions")[0][0] or 0)
        self._put(
            "INSERT INTO sessions (id, pid, host, started, resumed_from_step, began)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            *(self.session, os.getpid(), socket.gethostname(), time.time()),
            *(resumed_from_step, began),
        )

    def end_session(self, outcome: Outcome, error: str = "") -> None:
        self._put(
            "UPDATE sessions SET ended = ?, outcome = ?, error = ? WHERE id = ?",
            *(time.time(), outcome, error, self.session),
        )

    def progress(
        self,
        status: Status,
        phase: str,
        done: float = 0.0,
        total: float | None = None,
        unit: str = "",
        text: str = "",
    ) -> None:
        """Say what the engine does now; viewers show it as a phase with its progress."""
        row = (self.session, status, phase, done, total, unit, text, time.time())
        try:
            self._commit([("INSERT OR REPLACE INTO progress VALUES (1, ?,?,?,?,?,?,?,?)", row)])
        except sqlite3.OperationalError as error:
            # A step need not wait because its progress cannot be shown.
            if not _unwritable(error):
                raise

    def step(
        self,
        step: int,
        metrics: Mapping[str, float],
        knobs: Mapping[str, float],
        phases: Mapping[str, float],
        memory: Mapping[str, int] = NOTHING,
    ) -> None:
        """Record a finished step: metrics, the knob values it ran with, and of each phase its
        seconds and its peak bytes of memory."""
        self._put(
            "INSERT INTO steps (session, step, time, metrics, knobs, phases, memory)"
            " VALUES (?,?,?,?,?,?,?)",
            *(self.session, step, time.time()),
            *(_json(values) for values in (metrics, knobs, phases, memory)),
        )

    def samples(self, step: int, samples: Iterable[Sample]) -> None:
        for sample in samples:
            self._put(
                "INSERT INTO samples (session, step, kind, prompt_id, prompt, response, finished,"
                " score, gold, kl, net_reward, detail, pieces, tokens, logp, ref_logp, value,"
                " advantage)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                *(self.session, step, *sample.row()),
            )

    def measured(self, step: int, metrics: Mapping[str, float], command: str) -> None:
        """Record held-out figures that a person asked for after a step."""
        self._put(
            "INSERT INTO measured (session, step, time, metrics, command_id) VALUES (?,?,?,?,?)",
            *(self.session, step, time.time(), _json(metrics), command),
        )

    def command(self, command: Command, state: str, step: int, note: str = "") -> None:
        """Acknowledge a command; nothing if an earlier life of the engine already did."""
        self._put(
            "INSERT OR IGNORE INTO commands VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(command.id, command.kind, json.dumps(command.body), command.client, command.sent),
            *(state, self.session, step, time.time(), note),
        )

    def has_command(self, command_id: str) -> bool:
        row = self._db.execute("SELECT 1 FROM commands WHERE id = ?", (command_id,)).fetchone()
        return row is not None

    def knob(
        self, step: int, name: str, old: float | None, new: float, source: str, command: str = ""
    ) -> None:
        """Record who changed a knob, and the first step that ran with the new value."""
        self._put(
            "INSERT INTO knobs (session, step, time, name, old, new, source, command_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            *(self.session, step, time.time(), name, old, new, source, command),
        )

    def event(
        self,
        step: int,
        level: Level,
        kind: str,
        text: str,
        data: Mapping[str, Any] = NOTHING,
    ) -> None:
        """Record what happened; `data` is kept as JSON for programs."""
        self._put(
            "INSERT INTO events (session, step, time, level, kind, text, data)"
            " VALUES (?,?,?,?,?,?,?)",
            *(self.session, step, time.time(), level, kind, text, json.dumps(dict(data))),
        )

    def checkpoint(self, step: int, path: str, size: int) -> None:
        self._put(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?)",
            *(step, self.session, path, time.time(), size),
        )

    def forget_checkpoint(self, step: int) -> None:
        self._put("DELETE FROM checkpoints WHERE step = ?", step)

    def forget_checkpoints_after(self, step: int) -> None:
        self._put("DELETE FROM checkpoints WHERE step > ?", step)

    def last_step(self, *, to_redo: bool = False) -> int:
        """The last step that was done, 0 before the first; `to_redo` counts those after the
        checkpoint of a resumed session too, which are to be done again."""
        rule = (STANDING if to_redo else LIVE).format(table="steps")
        return int(self.query(f"SELECT max(step) FROM steps WHERE {rule}")[0][0] or 0)

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read back what earlier sessions of this run wrote."""
        return self._db.execute(sql, values).fetchall()


def _unwritable(error: sqlite3.OperationalError) -> bool:
    # The low byte of an extended code is its family.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in UNWRITABLE


def _json(values: Mapping[str, float]) -> str:
    """JSON with NaN and infinity as null and text: strict readers refuse the bare words."""
    return json.dumps({key: _plain(value) for key, value in values.items()})


def _plain(value: float) -> float | str | None:
    if isinstance(value, int) or math.isfinite(value):
        return value
    return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
