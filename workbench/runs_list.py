"""The list of runs as the home screen shows it: read in a thread, cheap when nothing changed."""

import math
import os
import re
import sqlite3
import time
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.reader import StepRow, StoreReader
from rlhf_engine.runs.state import RunState, run_state
from workbench.commands.follow import key_figures
from workbench.commands.text import clip, progress_text
from workbench.unreadable import UNREADABLE


@dataclass(frozen=True)
class RunRow:
    """One run at one moment; `now` says what it does or why it ended, `figures` how it went, and
    `saved` whether one that has ended has a checkpoint to go on from."""

    run: RunDir
    stage: str
    device: str
    created: float
    state: RunState
    launch: str = ""
    reads: tuple[str, ...] = ()
    kl: float | None = None
    score: float | None = None
    figures: str = ""
    now: str = ""
    saved: bool = False

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def name(self) -> str:
        return self.id[16:]


@dataclass(frozen=True)
class _Facts:
    """What never changes of a run: read once."""

    run: RunDir
    stage: str
    device: str
    created: float
    order: int
    reads: tuple[str, ...]
    watched: tuple[str, str]


Stamp = tuple[int, ...]


@dataclass
class RunsList:
    """Reads the runs of a home; one that has ended is read again only when its files change."""

    home: Path
    unread: int = 0
    _facts: dict[str, _Facts] = field(default_factory=dict)
    _rows: dict[str, tuple[Stamp, RunRow]] = field(default_factory=dict)
    _order: list[tuple[str, str]] = field(default_factory=list)

    def read(self, seconds: float = math.inf) -> list[RunRow]:
        """Every run, the newest launch first, the runs of one launch in their order.

        Runs that were never read are left for the next call once `seconds` have passed; `unread`
        says how many.
        """
        self._find()
        end = time.monotonic() + seconds
        rows: list[RunRow] = []
        self.unread = 0
        for run_id, launch in self._order:
            if run_id not in self._rows and rows and time.monotonic() > end:
                self.unread += 1
            elif row := self._row(self._facts[run_id], launch):
                rows.append(row)
        return rows

    def _find(self) -> None:
        """Learn of runs that are new or gone, and put all in order."""
        found = _ids(self.home)
        if found == self._facts.keys():
            return
        for gone in self._facts.keys() - found:
            self._facts.pop(gone)
            self._rows.pop(gone, None)
        for run_id in found - self._facts.keys():
            run = RunDir(self.home / "runs" / run_id)
            # A folder is a run once its spec is written.
            if run.spec_file.is_file():
                self._facts[run_id] = _read_facts(run)
        self._order = list(_in_order(list(self._facts.values())))

    def _row(self, facts: _Facts, launch: str) -> RunRow | None:
        stamp = stamp_of(facts.watched)
        known = self._rows.get(facts.run.id)
        if known and known[0] == stamp and known[1].launch == launch:
            settled = known[1].state.ended or known[1].state.word == UNREADABLE
            if settled:
                return known[1]
        if not facts.run.spec_file.is_file():  # it is being deleted
            return None
        row = _read_row(facts, launch)
        self._rows[facts.run.id] = (stamp, row)
        return row


def _ids(home: Path) -> set[str]:
    try:
        with os.scandir(home / "runs") as entries:
            return {entry.name for entry in entries if re.match(r"\d{8}-\d{6}-", entry.name)}
    except FileNotFoundError:
        return set()


def _in_order(facts: list[_Facts]) -> Iterator[tuple[str, str]]:
    """Ids, the newest launch first, each with its launch's name if that has several runs."""
    launches: list[list[_Facts]] = []
    for one in sorted(facts, key=lambda one: one.run.id, reverse=True):
        if launches and _belongs(launches[-1], one):
            launches[-1].append(one)
        else:
            launches.append([one])
    for launch in launches:
        launch.sort(key=lambda one: one.order)
        label = _prefix(launch[0].run) if len(launch) > 1 else ""
        for one in launch:
            yield one.run.id, label and f"{launch[0].run.id[:15]}-{label}"


def _prefix(run: RunDir) -> str:
    return run.id[16:].rpartition("-")[0]


def _belongs(launch: list[_Facts], one: _Facts) -> bool:
    """Whether a run came from the same pipeline: same prefix, same moment, a name of its own."""
    later = launch[-1]
    return (
        bool(_prefix(one.run))
        and _prefix(later.run) == _prefix(one.run)
        and abs(later.created - one.created) <= 1
        and all(one.run.id[16:] != other.run.id[16:] for other in launch)
    )


def _created(run: RunDir) -> float:
    try:
        return time.mktime(time.strptime(run.id[:15], "%Y%m%d-%H%M%S"))
    except ValueError:
        return 0.0


def watched(run: RunDir) -> tuple[str, str]:
    """The files that tell that an engine has been at a run: its lock and its store."""
    return str(run.lock), str(run.store)


def stamp_of(paths: Iterable[str]) -> Stamp:
    """When these files were written; costs next to nothing."""
    found = []
    for path in paths:
        try:
            found.append(os.stat(path).st_mtime_ns)
        except OSError:
            found.append(0)
    return tuple(found)


def _read_facts(run: RunDir) -> _Facts:
    created, paths = _created(run), watched(run)
    try:
        order = run.spec_file.stat().st_mtime_ns
        text = run.spec_file.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, ValueError):
        return _Facts(run, "", "", created, 0, (), paths)
    reads = tuple(dict.fromkeys(re.findall(r'"run:([^"]+)"', text)))
    stage, device = str(table.get("stage", "")), str(table.get("device", ""))
    return _Facts(run, stage, device, created, order, reads, paths)


def _read_row(facts: _Facts, launch: str) -> RunRow:
    run, device, saved = facts.run, "", False
    try:
        state = run_state(run)
        last, now, device, saved = _last(run, state)
    except (sqlite3.Error, OSError, ValueError) as error:
        state, last, now = RunState(UNREADABLE, str(error)), None, str(error)
    metrics = last.metrics if last else {}
    return RunRow(
        run=run,
        stage=facts.stage,
        device=device or facts.device,
        created=facts.created,
        state=state,
        launch=launch,
        reads=facts.reads,
        kl=metrics.get("kl"),
        score=metrics.get("score"),
        figures=clip(key_figures(last, between=" · "), 200),
        now=clip(now, 400),
        saved=saved,
    )


def _last(run: RunDir, state: RunState) -> tuple[StepRow | None, str, str, bool]:
    """The last step, what the run does or why it ended, the device that it ran on, and whether one
    that has ended has a checkpoint."""
    reader = StoreReader.open(run.store)
    if reader is None:
        return None, state.detail, "", False
    with reader:
        progress, device = reader.progress(), reader.facts().get("device", "")
        busy = state.word == "running" and progress is not None
        now = progress_text(progress) if busy and progress else state.detail
        saved = state.resumable and bool(reader.checkpoints())
        return reader.last_step(), now, device, saved
