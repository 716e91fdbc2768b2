"""What the engine does now, for viewers; and the points at which a person may interrupt it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rlhf_engine.memory import PeakMemory
from rlhf_engine.runs.writer import StoreWriter

UPDATE_SECONDS = 0.5


class Interrupted(Exception):
    """A pause or stop was asked for between two phases; the unfinished step is redone later."""


def log(text: str) -> None:
    """Print a line into the engine's log, which is its standard output.

    A disk that takes no more must not end a run because of it.
    """
    with suppress(OSError):
        print(text, flush=True)  # noqa: T201


class Reporter:
    """Writes phases and their progress into the store; measures their seconds and memory."""

    def __init__(
        self, store: StoreWriter, interrupted: Callable[[], bool], peak: PeakMemory
    ) -> None:
        self._store = store
        self._interrupted = interrupted
        self._peak = peak
        self._stepping = False
        self._written = 0.0
        self.doing = ""
        self.seconds: dict[str, float] = {}
        self.memory: dict[str, int] = {}

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside, a phase may raise Interrupted: around a step, which can be redone."""
        self._stepping = True
        try:
            yield
        finally:
            self._stepping = False

    @contextmanager
    def phase(
        self, name: str, total: float | None = None, unit: str = ""
    ) -> Iterator[Callable[[float], None]]:
        """Measure a phase and show its progress; gives a function that is told what is done.

        Inside a step, raises Interrupted on entry if a pause or stop waits.
        """
        if self._stepping and self._interrupted():
            raise Interrupted(name)
        self.doing = name
        self._write(name, 0.0, total, unit, urgent=total is None)
        self._peak.reset()
        start = time.perf_counter()
        try:
            yield lambda done: self._write(name, done, total, unit)
        finally:
            self.memory[name] = max(self.memory.get(name, 0), self._peak.read())
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Inside, no phase raises Interrupted: after the update a step cannot be redone."""
        before, self._stepping = self._stepping, False
        try:
            yield
        finally:
            self._stepping = before

    def say(self, text: str) -> None:
        """Show one line of text for something long that has no measure."""
        self._store.progress("running", text)
        log(text)

    def take_seconds(self) -> dict[str, float]:
        """Seconds of each phase since the last call."""
        taken, self.seconds = self.seconds, {}
        return taken

    def take_memory(self) -> dict[str, int]:
        """Peak bytes of each phase since the last call."""
        taken, self.memory = self.memory, {}
        return taken

    def forget(self) -> None:
        """Drop what was measured of work that belongs to no step."""
        self.seconds, self.memory = {}, {}

    def _write(
        self, name: str, done: float, total: float | None, unit: str, urgent: bool = False
    ) -> None:
        now = time.monotonic()
        if urgent or now - self._written >= UPDATE_SECONDS:
            self._store.progress("running", name, done, total, unit)
            self._written = now
