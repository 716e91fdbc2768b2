"""The steps of a run that one can go back to, as a list to choose from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from rlhf_engine.job.spec import Spec
from rlhf_engine.runs.reader import StepRow
from workbench.commands.text import clock
from workbench.feed import Snapshot
from workbench.format import short
from workbench.keys import LIST_KEYS, bindings
from workbench.widgets.pictures import row_at

# These stages train nothing: every step of them can be done again from where it was.
STATELESS = ("collect", "evaluate")
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True)
class Point:
    """A step, and in words what is known of it."""

    step: int
    words: str


def return_points(
    snapshot: Snapshot, spec: Spec, metrics: Sequence[tuple[str, str]], to_start: bool
) -> list[Point]:
    """The steps that can be gone back to, newest first; with `to_start` the run's start too."""
    if spec.stage in STATELESS:
        found = [
            Point(row.step, f"{clock(row.time)}{figures(row, metrics)}")
            for row in reversed(snapshot.steps)
        ]
    else:
        newest = {row.step: row for row in snapshot.checkpoints}
        found = []
        for step, saved in sorted(newest.items(), reverse=True):
            words = f"{clock(saved.time)}  {size(saved.bytes):>9}"
            row = row_at(snapshot.steps, step)
            known = row is not None and row.step == step
            found.append(Point(step, words + (figures(row, metrics) if row and known else "")))
    if to_start and not spec.begins_after and snapshot.steps:
        found.append(Point(0, "the start"))
    return found


def figures(row: StepRow, metrics: Sequence[tuple[str, str]]) -> str:
    """`  KL 6.1  score 1.2`, of those that the step has."""
    known = [f"{label} {short(row.metrics[m])}" for m, label in metrics if m in row.metrics]
    return "".join(f"  {words:<11}" for words in known).rstrip()


def size(count: float) -> str:
    """A size on the disk: `12.3 MiB`."""
    power = 0
    while count >= 1024 and power < len(UNITS) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.1f} {UNITS[power]}" if power else f"{count:.0f} B"


def nearest(points: Sequence[Point], step: int | None) -> int:
    """The index of the point that is nearest to a step; the newest one without a step."""
    if step is None:
        return 0
    return min(range(len(points)), key=lambda index: abs(points[index].step - step))


class PointList(OptionList):
    """The steps one below the other; j and k move too."""

    DEFAULT_CSS = """
    PointList {
        height: auto; max-height: 12; border: none; padding: 0;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(LIST_KEYS)]

    def __init__(self, points: Sequence[Point], at: int | None) -> None:
        super().__init__(
            *(Option(Content(f"step {point.step:>6,}  {point.words}")) for point in points),
            compact=True,
        )
        self.points = points
        self.highlighted = nearest(points, at)

    @property
    def chosen(self) -> Point:
        return self.points[self.highlighted or 0]
