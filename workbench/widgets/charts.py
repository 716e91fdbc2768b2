"""A stage's charts over one run, how a person wants to see them, and the crosshair on them."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical

from rlhf_engine.runs.reader import StepRow
from workbench.feed import Snapshot
from workbench.widgets.chart import Chart
from workbench.widgets.pictures import (
    SMOOTHINGS,
    WINDOWS,
    ChartPlan,
    View,
    legend,
    picture,
    place,
    row_at,
    title,
    visible,
)
from workbench.widgets.series import SeriesBook

# What the axis and the border take of a chart's width.
BESIDE = 9
# Below these heights of the screen one chart, or two, have room.
ONE_CHART, TWO_CHARTS = 19, 32


class Charts(Vertical):
    """The charts of one stage below each other; as many as there is room for, or a chosen one."""

    def __init__(self, plans: Sequence[ChartPlan], id: str) -> None:
        super().__init__(id=id)
        self.plans = plans
        self.book = SeriesBook()
        self.view = View()
        self._only: int | None = None
        self._rows: Sequence[StepRow] = ()
        self._start = 0.0

    @property
    def metrics(self) -> list[str]:
        """What the charts show, in their order."""
        return [curve.metric for plan in self.plans for curve in reversed(plan.curves)]

    def compose(self) -> ComposeResult:
        for index in range(len(self.plans)):
            yield Chart(id=f"chart-{index}")

    @property
    def cursor(self) -> StepRow | None:
        """The step under the crosshair."""
        return row_at(self._rows, self.view.cursor) if self.view.cursor is not None else None

    def show(self, snapshot: Snapshot) -> None:
        """Draw a run as it is; the crosshair stays on its step as long as that is in sight."""
        self._rows = visible(snapshot.steps, self.view)
        self._start = snapshot.steps[0].time if snapshot.steps else 0.0
        self.book.update(snapshot.steps, snapshot.generation, self.view.smoothing)
        row = self.cursor
        self.view = replace(self.view, cursor=row.step if row else None)
        wide = self.screen.size.width >= 100
        for index in range(len(self.plans)):
            self._chart(index).display = self._has_room(index)
        for index, plan in enumerate(self.plans):
            if self._chart(index).display:
                self._chart(index).show(
                    picture(plan, snapshot, self.book, self.view),
                    title(plan, snapshot, self.view, wide),
                    legend(plan, snapshot, self.book, row),
                )

    def _chart(self, index: int) -> Chart:
        return self.query_one(f"#chart-{index}", Chart)

    def _has_room(self, index: int) -> bool:
        if self._only is not None:
            return index == self._only
        height = self.screen.size.height
        return index < (1 if height < ONE_CHART else 2 if height < TWO_CHARTS else 3)

    def look(self, **changes: Any) -> None:
        """Change how the charts are seen; drawn with the next `show`."""
        self.view = replace(self.view, **changes)

    def smooth(self) -> None:
        self.look(smoothing=after(SMOOTHINGS, self.view.smoothing))

    def widen(self) -> None:
        self.look(window=after(WINDOWS, self.view.window))

    def turn_over(self) -> None:
        """From all charts to the first one alone, to the next, and after the last to all."""
        choices = (None, *range(len(self.plans)))
        self._only = after(choices, self._only)

    def move(self, by: int, single: bool = False) -> None:
        """Move the crosshair by columns of the screen, or by single steps."""
        row, rows = self.cursor, self._rows
        if row is None:
            self.to_end(by)
            return
        stride = 1 if single else max(1, len(rows) // max(1, self.size.width - BESIDE))
        index = bisect_left(rows, row.step, key=lambda row: row.step) + by * stride
        self.look(cursor=rows[min(len(rows) - 1, max(0, index))].step)

    def to_end(self, by: int) -> None:
        """To the first step in sight for a positive `by`, else to the last one."""
        if self._rows:
            self.look(cursor=self._rows[0 if by > 0 else -1].step)

    def point(self, x: float) -> None:
        """Put the crosshair on the step nearest to a place on the x axis."""
        if self._rows:
            row = min(self._rows, key=lambda row: abs(place(row, self.view, self._start) - x))
            self.look(cursor=row.step)

    def drop_cursor(self) -> bool:
        """Take the crosshair away; False if there was none."""
        had = self.view.cursor is not None
        self.look(cursor=None)
        return had


def after(choices: Sequence[Any], current: Any) -> Any:
    """The choice after the current one; after the last, the first."""
    return choices[(choices.index(current) + 1) % len(choices)]
