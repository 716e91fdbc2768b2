"""The kernel lock behind `alive` and `busy`."""

import os
import threading
import time
from pathlib import Path

import pytest

from rlhf_engine.runs import lock as locks
from rlhf_engine.runs.lock import Lock, is_held, owner


def take(path: Path) -> Lock:
    lock = Lock.take(path, "me", patience=0.0)
    assert lock is not None
    return lock


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.lock"
    assert not is_held(path)
    lock = take(path)
    assert is_held(path)
    assert owner(path).strip("\0") == "me"
    assert Lock.take(path, "you", patience=0.05) is None
    assert owner(path).strip("\0") == "me"
    lock.release()
    assert not is_held(path)
    take(path).release()


def test_a_second_release_leaves_the_file_that_got_the_number(tmp_path: Path) -> None:
    lock = take(tmp_path / "a.lock")
    number = lock.descriptor
    lock.release()
    with (tmp_path / "other").open("w") as other:
        assert other.fileno() == number, "the kernel gives the lowest free number"
        lock.release()
        os.fstat(other.fileno())


def test_a_heartbeat_under_way_touches_the_lock_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, touched = threading.Event(), []

    def slow(descriptor: int) -> None:
        begun.set()
        time.sleep(0.1)
        touched.append(os.fstat(descriptor).st_ino)

    path = tmp_path / "a.lock"
    lock = take(path)
    monkeypatch.setattr(os, "utime", slow)
    lock.beat()
    begun.wait()
    lock.release()
    with (tmp_path / "other").open("w"):
        time.sleep(0.2)
    assert touched == [path.stat().st_ino]


def test_the_heartbeat_ends_with_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.01)
    lock = take(tmp_path / "a.lock")
    lock.beat()
    lock.release()
    with (tmp_path / "other").open("w") as other:
        before = os.fstat(other.fileno()).st_mtime_ns
        time.sleep(0.1)
        assert os.fstat(other.fileno()).st_mtime_ns == before
