"""A screen that follows one run: read in a thread, drawn at most so often, held on demand."""

import threading
import time
from abc import abstractmethod
from dataclasses import dataclass, replace
from functools import partial

from textual.message import Message
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.state import RunState
from workbench.feed import RunFeed, Snapshot, redraw_seconds
from workbench.screens.seen import is_seen


class RunScreen(Screen[None]):
    """Holds the newest snapshot of a run and calls `draw` when there is something to draw."""

    @dataclass
    class Changed(Message):
        """The run has changed; posted by the thread that reads it."""

        snapshot: Snapshot

    def __init__(self, run: RunDir) -> None:
        super().__init__()
        self.run = run
        self.snapshot = Snapshot(RunState("starting"))
        self._held: Snapshot | None = None
        self._stop = threading.Event()
        self._drawn = 0.0
        self._due = False

    @abstractmethod
    def draw(self, snapshot: Snapshot) -> None:
        """Show a snapshot; called only while the screen is the one in front."""

    def follow(self) -> None:
        """Read the run from now on until the screen is left."""
        feed = RunFeed(self.run)
        follow = partial(feed.follow, self._tell, self._stop)
        self.run_worker(follow, thread=True, group="feed", exit_on_error=False)
        self.redraw()

    def on_unmount(self) -> None:
        self._stop.set()

    def _tell(self, snapshot: Snapshot) -> None:
        if self.is_running and not self._stop.is_set():
            self.post_message(self.Changed(snapshot))

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.ERROR and event.worker.group == "feed":
            again = "q, then 3 opens it again"
            words = f"the display has stopped, the run goes on: {event.worker.error}; {again}"
            self.snapshot = replace(self.snapshot, problem=words)
            self.redraw()

    def on_resize(self) -> None:
        self.call_after_refresh(self.redraw)

    def on_screen_resume(self) -> None:
        self.redraw()

    def on_run_screen_changed(self, message: Changed) -> None:
        """Draw now if the last drawing is long enough ago; else once, later."""
        self.snapshot = message.snapshot
        if self._held or self._due:
            return
        wait = self._drawn + redraw_seconds() - time.monotonic()
        if wait <= 0:
            self.redraw()
        else:
            self._due = True
            self.set_timer(wait, self._draw_due)

    def _draw_due(self) -> None:
        self._due = False
        if not self._held:
            self.redraw()

    def redraw(self) -> None:
        """Draw what is shown now, at once: a person has changed something."""
        if self.is_mounted and is_seen(self):
            self._drawn = time.monotonic()
            self.draw(self.shown)

    @property
    def frozen(self) -> bool:
        return self._held is not None

    @property
    def shown(self) -> Snapshot:
        """The run as the display shows it: the newest state, or the one that it was frozen at."""
        return self._held or self.snapshot

    def action_freeze(self) -> None:
        self._held = None if self._held else self.snapshot
        self.redraw()
