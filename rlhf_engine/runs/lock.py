"""Kernel locks: what `alive` and `busy` mean, whatever is left behind by a kill."""

import fcntl
import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

HEARTBEAT_SECONDS = 2.0
SILENT_SECONDS = 30.0
# The file always has this size: what it says can be replaced on a disk that is full.
TEXT_BYTES = 4096
# Names the descriptor of a lock that a process holds from its first moment.
HANDED_OVER = "WORKBENCH_LOCK"


class Lock:
    """An exclusive flock on a file, held until the process ends or `release`."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path
        self._closing = threading.Lock()

    @classmethod
    def take(cls, path: Path, text: str, patience: float = 1.0) -> Self | None:
        """Take the lock and write `text` into its file; None if another process holds it.

        Tries again for `patience` seconds, since a viewer's probe holds it for an instant.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    os.close(descriptor)
                    return None
                time.sleep(0.02)
        lock = cls(descriptor, path)
        lock.write(text)
        return lock

    @classmethod
    def inherited(cls, path: Path) -> Self | None:
        """The lock on `path` that the process that started this one took for it, if it did."""
        given = os.environ.pop(HANDED_OVER, "")
        if not given.isdecimal():
            return None
        descriptor = int(given)
        try:
            same = os.path.samestat(os.fstat(descriptor), path.stat())
        except OSError:
            return None
        if not same:
            return None
        os.set_inheritable(descriptor, False)
        return cls(descriptor, path)

    @property
    def descriptor(self) -> int:
        """The open file whose last copy, in whichever process, frees the lock when it closes."""
        return self._descriptor

    def write(self, text: str) -> None:
        """Replace what `owner` reads."""
        os.pwrite(self._descriptor, text.encode()[:TEXT_BYTES].ljust(TEXT_BYTES), 0)

    def beat(self) -> None:
        """Touch the file every two seconds from a thread, so that a hung machine shows."""

        def touch() -> None:
            while self._touch():
                time.sleep(HEARTBEAT_SECONDS)

        threading.Thread(target=touch, name="heartbeat", daemon=True).start()

    def _touch(self) -> bool:
        with self._closing:
            if self._descriptor < 0:
                return False
            with suppress(OSError):
                os.utime(self._descriptor)
            return True

    def release(self) -> None:
        """Give the lock up; a second time does nothing."""
        # The number soon names another file, which no second call and no heartbeat may touch.
        with self._closing:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def engine_text(pid: int, trouble: str = "") -> str:
    """What an engine's lock says: whose it is, and why it cannot write its store if it cannot."""
    about = {"pid": pid, "host": socket.gethostname()}
    return json.dumps(about | {"trouble": trouble} if trouble else about)


def owner(path: Path) -> str:
    """What the holder wrote about itself; empty if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def trouble(path: Path) -> str:
    """Why an engine that holds the lock cannot write its store; empty if it can."""
    try:
        about = json.loads(owner(path))
    except ValueError:
        return ""
    return str(about.get("trouble", "")) if isinstance(about, dict) else ""


def silent_for(path: Path) -> float:
    """Seconds since the last heartbeat; 0 if there was none."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return 0.0
