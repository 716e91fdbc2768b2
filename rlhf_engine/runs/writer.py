"""The engine's side of run.db: the only writer there is."""

import json
import math
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rlhf_engine.runs.inbox import Command
from rlhf_engine.runs.sample import Sample
from rlhf_engine.runs.schema import ADDED, SCHEMA, VERSION

Outcome = Literal["done", "failed", "stopped", "cancelled"]
Status = Literal["waiting", "queued", "running", "paused"]
Level = Literal["info", "warn", "error"]


class StoreWriter:
    """Writes one session of a run; everything inside `transaction` lands together or not at all."""

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30.0)
        self._db.execute("PRAGMA journal_mode = WAL")
        # A command's file is unlinked after the commit that took it up: the commit must last.
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(SCHEMA)
        self._upgrade()
        self.set_fact("schema_version", str(VERSION))
        self.session = 0

    def _upgrade(self) -> None:
        for table, columns in ADDED.items():
            present = {row[1] for row in self._db.execute(f"PRAGMA table_info({table})")}
            for column in columns:
                if column not in present:
                    self._db.execute(f"ALTER TABLE {table} ADD COLUMN {column} TEXT")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()

    def set_fact(self, key: str, value: str) -> None:
        """Remember one fact of the run, such as its total number of steps."""
        self._db.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (key, value))

    def start_session(self, resumed_from_step: int | None) -> int:
        """Open this process's session; rows of earlier ones past that step become history."""
        row = (os.getpid(), socket.gethostname(), time.time(), resumed_from_step)
        cursor = self._db.execute(
            "INSERT INTO sessions (pid, host, started, resumed_from_step) VALUES (?, ?, ?, ?)", row
        )
        self.session = int(cursor.lastrowid or 0)
        return self.session

    def end_session(self, outcome: Outcome, error: str = "") -> None:
        self._db.execute(
            "UPDATE sessions SET ended = ?, outcome = ?, error = ? WHERE id = ?",
            (time.time(), outcome, error, self.session),
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
        self._db.execute(
            "INSERT OR REPLACE INTO progress VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self.session, status, phase, done, total, unit, text, time.time()),
        )

    def step(
        self,
        step: int,
        metrics: Mapping[str, float],
        knobs: Mapping[str, float],
        phases: Mapping[str, float],
        memory: Mapping[str, int],
    ) -> None:
        """Record a finished step: metrics, the knob values it ran with, and of each phase its
        seconds and its peak bytes of memory."""
        columns = [_json(values) for values in (metrics, knobs, phases, memory)]
        self._db.execute(
            "INSERT INTO steps (session, step, time, metrics, knobs, phases, memory)"
            " VALUES (?,?,?,?,?,?,?)",
            (self.session, step, time.time(), *columns),
        )

    def samples(self, step: int, samples: Iterable[Sample]) -> None:
        self._db.executemany(
            "INSERT INTO samples (session, step, kind, prompt_id, prompt, response, finished,"
            " score, gold, kl, net_reward, detail, pieces, tokens, logp, ref_logp, value,"
            " advantage)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            [(self.session, step, *sample.row()) for sample in samples],
        )

    def command(self, command: Command, state: str, step: int, note: str = "") -> bool:
        """Acknowledge a command; False if an earlier life of the engine already did."""
        cursor = self._db.execute(
            "INSERT OR IGNORE INTO commands VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                command.id,
                command.kind,
                json.dumps(command.body),
                command.client,
                command.sent,
                state,
                self.session,
                step,
                time.time(),
                note,
            ),
        )
        return cursor.rowcount == 1

    def has_command(self, command_id: str) -> bool:
        row = self._db.execute("SELECT 1 FROM commands WHERE id = ?", (command_id,)).fetchone()
        return row is not None

    def knob(
        self, step: int, name: str, old: float | None, new: float, source: str, command: str = ""
    ) -> None:
        """Record who changed a knob, and the first step that ran with the new value."""
        self._db.execute(
            "INSERT INTO knobs (session, step, time, name, old, new, source, command_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (self.session, step, time.time(), name, old, new, source, command),
        )

    def event(self, step: int, level: Level, kind: str, text: str) -> None:
        self._db.execute(
            "INSERT INTO events (session, step, time, level, kind, text) VALUES (?,?,?,?,?,?)",
            (self.session, step, time.time(), level, kind, text),
        )

    def checkpoint(self, step: int, path: str, size: int) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?)",
            (step, self.session, path, time.time(), size),
        )

    def forget_checkpoint(self, step: int) -> None:
        self._db.execute("DELETE FROM checkpoints WHERE step = ?", (step,))

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Read back what earlier sessions of this run wrote."""
        return self._db.execute(sql, values).fetchall()


def _json(values: Mapping[str, float]) -> str:
    """JSON with NaN and infinity as null and text: strict readers refuse the bare words."""
    return json.dumps({key: _plain(value) for key, value in values.items()})


def _plain(value: float) -> float | str | None:
    if isinstance(value, int) or math.isfinite(value):
        return value
    return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
