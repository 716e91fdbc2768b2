"""The compared runs as they are read: one thread for all of them."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.spec import Spec
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.state import RunState
from workbench import feed
from workbench.comparison import Setting, Tally, settings
from workbench.feed import RunFeed, Snapshot
from workbench.runs_list import Stamp, stamp_of, watched
from workbench.widgets.series import SeriesBook


class Lane:
    """One compared run: its newest snapshot and what is made from it."""

    def __init__(self, run: RunDir, slot: int) -> None:
        self.run, self.slot = run, slot
        self.snapshot = Snapshot(RunState("starting"))
        self.was_read = False
        self.spec: Spec | None = None
        self.problem = ""
        self.book = SeriesBook()
        self.tally = Tally()
        self.names: set[str] = set()
        self._named = (-1, 0)

    @property
    def name(self) -> str:
        return self.run.id[16:]

    @property
    def word(self) -> str:
        """The run's state in a word; `reading`, `deleted` and `unreadable` are the viewer's own."""
        if not self.was_read:
            return "reading"
        return self.snapshot.state.word

    def take(self, snapshot: Snapshot) -> None:
        """Show another moment of the run."""
        self.was_read = True
        self.snapshot = snapshot
        self.tally.update(snapshot.steps, snapshot.generation)
        generation, read = self._named
        start = read if generation == snapshot.generation else 0
        for row in snapshot.steps[start:]:
            self.names.update(row.metrics, row.knobs)
        self._named = (snapshot.generation, len(snapshot.steps))

    def settings(self) -> dict[str, Setting]:
        """The fields of its spec, with the knobs as they are now; empty while it is not read."""
        last = self.snapshot.last
        return settings(self.spec, last.knobs if last else None) if self.spec else {}


@dataclass(frozen=True)
class News:
    """What the thread has read of one run; `spec` comes with the first news of it."""

    run: RunDir
    snapshot: Snapshot
    spec: Spec | None = None
    problem: str = ""


@dataclass
class Reader:
    """Reads every wanted run, again and again; `wanted` may be replaced at any time."""

    tell: Callable[[News], object]
    wanted: Sequence[RunDir] = ()
    stop: threading.Event = field(default_factory=threading.Event)
    _feeds: dict[str, RunFeed] = field(default_factory=dict)
    _told: dict[str, Snapshot] = field(default_factory=dict)
    _stamps: dict[str, Stamp] = field(default_factory=dict)

    def follow(self) -> None:
        """Tell what changes until `stop` is set; runs in a thread of its own."""
        try:
            while not self.stop.is_set():
                wanted = list(self.wanted)
                for gone in self._feeds.keys() - {run.id for run in wanted}:
                    self._feeds.pop(gone).close()
                    self._told.pop(gone, None)
                for run in wanted:
                    self._look(run)
                self.stop.wait(feed.POLL_SECONDS)
        finally:
            for one in self._feeds.values():
                one.close()

    def _look(self, run: RunDir) -> None:
        first, stamp = run.id not in self._feeds, stamp_of(watched(run))
        before = self._told.get(run.id)
        if before and before.state.ended and stamp == self._stamps.get(run.id):
            return
        self._stamps[run.id] = stamp
        snapshot = self._feeds.setdefault(run.id, RunFeed(run)).look()
        if snapshot is before or self.stop.is_set():
            return
        self._told[run.id] = snapshot
        spec, problem = None, ""
        if first:
            try:
                spec = run.spec()
            except SpecError as error:
                problem = str(error)
        self.tell(News(run, snapshot, spec, problem))
