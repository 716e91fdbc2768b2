"""The list of runs as the home screen shows it: read in a thread, cheap when nothing changed."""

import operator
import re
import sqlite3
import time
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_engine.runs.directory import RunDir, all_runs
from rlhf_engine.runs.lock import is_held
from rlhf_engine.runs.reader import StepRow, StoreReader
from rlhf_engine.runs.state import RunState, run_state
from workbench.commands.follow import key_figures
from workbench.commands.text import clip, progress_text

# `unreadable` is the viewer's own word: a store or spec that cannot be read.
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class RunRow:
    """One run at one moment; `now` says what it does or why it ended, `figures` how it went."""

    run: RunDir
    stage: str
    device: str
    created: float
    state: RunState
    launch: str = ""
    kl: float | None = None
    score: float | None = None
    figures: str = ""
    now: str = ""

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def name(self) -> str:
        return self.id[16:]


@dataclass(frozen=True)
class _Facts:
    """What never changes of a run: read once."""

    stage: str
    device: str
    created: float
    order: int


Stamp = tuple[tuple[int, int], ...]


@dataclass
class RunsList:
    """Reads the runs of a home; a run that has ended is read again only when its files change."""

    home: Path
    _facts: dict[str, _Facts] = field(default_factory=dict)
    _rows: dict[str, tuple[Stamp, RunRow]] = field(default_factory=dict)

    def read(self) -> list[RunRow]:
        """Every run, the newest launch first, the runs of one launch in their order."""
        runs = list(all_runs(self.home))
        known = {run.id for run in runs}
        for gone in set(self._rows) - known:
            self._rows.pop(gone), self._facts.pop(gone)
        launches: list[list[RunDir]] = []
        for run in runs:
            if launches and _belongs(launches[-1], run):
                launches[-1].append(run)
            else:
                launches.append([run])
        rows = []
        for launch in launches:
            launch.sort(key=lambda run: self._fact(run).order)
            label = _prefix(launch[0]) if len(launch) > 1 else ""
            rows += [self._row(run, label and f"{launch[0].id[:15]}-{label}") for run in launch]
        return rows

    def _fact(self, run: RunDir) -> _Facts:
        if run.id not in self._facts:
            self._facts[run.id] = _read_facts(run)
        return self._facts[run.id]

    def _row(self, run: RunDir, launch: str) -> RunRow:
        stamp = _stamp(run)
        known = self._rows.get(run.id)
        if known and known[0] == stamp and known[1].launch == launch:
            settled = known[1].state.ended or known[1].state.word == UNREADABLE
            if settled and not is_held(run.lock):
                return known[1]
        row = _read_row(run, self._fact(run), launch)
        self._rows[run.id] = (stamp, row)
        return row


def _prefix(run: RunDir) -> str:
    return run.id[16:].rpartition("-")[0]


def _belongs(launch: list[RunDir], run: RunDir) -> bool:
    """Whether a run came from the same pipeline: same prefix, same moment, a name of its own."""
    later = launch[-1]
    return (
        bool(_prefix(run))
        and _prefix(later) == _prefix(run)
        and abs(_created(later) - _created(run)) <= 1
        and all(run.id[16:] != other.id[16:] for other in launch)
    )


def _created(run: RunDir) -> float:
    try:
        return time.mktime(time.strptime(run.id[:15], "%Y%m%d-%H%M%S"))
    except ValueError:
        return 0.0


def _stamp(run: RunDir) -> Stamp:
    """Size and time of the files that change when the engine writes."""
    found = []
    for path in (run.store, run.store.with_name("run.db-wal"), run.log):
        try:
            stat = path.stat()
        except OSError:
            found.append((0, 0))
        else:
            # A reader leaves an empty log beside the store.
            found.append((stat.st_mtime_ns, stat.st_size) if stat.st_size else (0, 0))
    return tuple(found)


def _read_facts(run: RunDir) -> _Facts:
    created = _created(run)
    try:
        order = run.spec_file.stat().st_mtime_ns
        table = tomllib.loads(run.spec_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return _Facts("", "", created, 0)
    return _Facts(str(table.get("stage", "")), str(table.get("device", "")), created, order)


def _read_row(run: RunDir, facts: _Facts, launch: str) -> RunRow:
    try:
        state = run_state(run)
        last, now = _last(run, state)
    except (sqlite3.Error, OSError, ValueError) as error:
        state, last, now = RunState(UNREADABLE, str(error)), None, str(error)
    metrics = last.metrics if last else {}
    return RunRow(
        run=run,
        stage=facts.stage,
        device=facts.device,
        created=facts.created,
        state=state,
        launch=launch,
        kl=metrics.get("kl"),
        score=metrics.get("score"),
        figures=clip(key_figures(last, between=" · "), 200),
        now=clip(now, 400),
    )


def _last(run: RunDir, state: RunState) -> tuple[StepRow | None, str]:
    reader = StoreReader.open(run.store)
    if reader is None:
        return None, state.detail
    with reader:
        progress = reader.progress()
        busy = state.word == "running" and progress is not None
        return reader.last_step(), progress_text(progress) if busy and progress else state.detail


class FilterError(ValueError):
    """A filter says something that cannot be; the message says what can."""


Test = Callable[[RunRow], bool]
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_NUMBERS: dict[str, Callable[[RunRow], float | None]] = {
    "kl": lambda row: row.kl,
    "score": lambda row: row.score,
    "step": lambda row: row.state.step,
}
_WORDS: dict[str, Callable[[RunRow], str]] = {
    "kind": lambda row: row.stage,
    "stage": lambda row: row.stage,
    "state": lambda row: row.state.word,
    "name": lambda row: row.name,
    "device": lambda row: row.device,
}


def parse_filter(text: str) -> Callable[[Iterable[RunRow]], list[RunRow]]:
    """What a filter keeps: `kind:ppo kl>8 -state:lost word`; all parts must hold.

    `-` before a part turns it round. Raises FilterError with what can be written instead.
    """
    tests = [_part(part) for part in text.split()]
    return lambda rows: [row for row in rows if all(test(row) for test in tests)]


def _part(part: str) -> Test:
    negated, bare = part.startswith("-") and len(part) > 1, part.removeprefix("-") or part
    test = _test(bare)
    return (lambda row: not test(row)) if negated else test


def _test(part: str) -> Test:
    if found := re.fullmatch(r"(\w+)(<=|>=|<|>|=)(.*)", part):
        return _comparison(*found.groups())
    name, colon, wanted = part.lower().partition(":")
    if colon and name not in _WORDS:
        raise FilterError(f"{name}: is not known; known: {', '.join(f'{w}:' for w in _WORDS)}")
    if colon:
        return lambda row: wanted in _WORDS[name](row).lower()
    return lambda row: any(part.lower() in text.lower() for text in _texts(row))


def _texts(row: RunRow) -> tuple[str, ...]:
    return (row.id, row.stage, row.state.word, row.device)


def _comparison(name: str, sign: str, wanted: str) -> Test:
    number = _NUMBERS.get(name.lower())
    if number is None:
        raise FilterError(f"{name} is no figure of the list; known: {', '.join(_NUMBERS)}")
    try:
        limit = float(wanted)
    except ValueError:
        raise FilterError(f"{name}{sign} needs a number, for example {name}{sign}8") from None

    def test(row: RunRow) -> bool:
        value = number(row)
        return value is not None and _COMPARE[sign](value, limit)

    return test
