"""The store of a run: old files open, and what counts after a resume or a rollback."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.schema import SCHEMA
from rlhf_engine.runs.writer import StoreWriter


def reading(path: Path) -> StoreReader:
    reader = StoreReader.open(path)
    assert reader is not None
    return reader


def steps(store: StoreWriter, first: int, last: int) -> None:
    for step in range(first, last + 1):
        store.step(step, {}, {}, {})


def test_a_store_from_before_sessions_said_why_they_began_opens(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    old = sqlite3.connect(path)
    old.executescript(SCHEMA.replace(", began TEXT NOT NULL DEFAULT ''", ""))
    old.execute("INSERT INTO sessions (id, pid, host, started) VALUES (1, 7, 'here', 0.0)")
    old.commit()
    old.close()
    with reading(path) as reader:
        assert [(s.id, s.began) for s in reader.sessions()] == [(1, "")]
    for _ in range(2):
        store = StoreWriter(path)
        store.close()
    store = StoreWriter(path)
    store.start_session(3, "rollback")
    store.close()
    with reading(path) as reader:
        assert [(s.id, s.began) for s in reader.sessions()] == [(1, ""), (2, "rollback")]


def test_a_resume_redoes_later_steps_and_a_rollback_takes_them_back(tmp_path: Path) -> None:
    store = StoreWriter(tmp_path / "run.db")
    store.start_session(None)
    steps(store, 1, 20)
    store.start_session(15, "resume")
    assert (store.last_step(), store.last_step(to_redo=True)) == (15, 20)
    steps(store, 16, 17)
    store.start_session(10, "rollback")
    assert (store.last_step(), store.last_step(to_redo=True)) == (10, 10)
    steps(store, 11, 13)
    store.start_session(10, "resume")
    assert (store.last_step(), store.last_step(to_redo=True)) == (10, 13)
    store.close()
    with reading(tmp_path / "run.db") as reader:
        assert [row.step for row in reader.steps()] == list(range(1, 11))
        ended = [(s.began, s.outcome, s.ended is not None) for s in reader.sessions()]
    assert ended[1] == ("resume", "rollback", True), "the life before a rollback has an end"


def test_a_transaction_lands_whole_or_not_at_all(tmp_path: Path) -> None:
    store = StoreWriter(tmp_path / "run.db")
    store.start_session(None)

    def write(text: Callable[[], Any]) -> None:
        with store.transaction():
            store.step(1, {}, {}, {})
            store.event(1, "info", "kept", text())

    with pytest.raises(ZeroDivisionError):
        write(lambda: 1 / 0)
    with pytest.raises(sqlite3.Error):
        write(object)
    write(str)
    store.close()
    with reading(tmp_path / "run.db") as reader:
        assert [row.step for row in reader.steps()] == [1]
        assert [row.kind for row in reader.events()] == ["kept"]
