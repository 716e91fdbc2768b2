"""The table of runs: columns that fit the width, cells changed only where something changed."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from rich.text import Text
from textual.binding import BindingType
from textual.theme import Theme
from textual.widgets import DataTable

from workbench.commands.text import cells, clip, number, of_total
from workbench.keys import LIST_KEYS, OPEN_KEY, bindings
from workbench.runs_list import RunRow
from workbench.themes import state_style

ALIVE_DOT, ENDED_DOT = "●", "○"
# From left to right; the last to go when the terminal is narrow stand first in `_KEPT`.
COLUMNS = ("STATE", "STAGE", "NAME", "STEP", "KL", "SCORE", "AGE", "DEVICE")
_DROPPED_FIRST = ("DEVICE", "STAGE", "AGE")
_RIGHT = ("STEP", "KL", "SCORE", "AGE")
NAME_CELLS = 18


def age_text(seconds: float) -> str:
    """How long ago, in one unit: `12s`, `5m`, `3h`, `2d`."""
    seconds = max(0.0, seconds)
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "m"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds // unit:.0f}{name}"
    return f"{seconds // 86400:.0f}d"


def branches(rows: Sequence[RunRow]) -> list[str]:
    """A mark before each name that joins the runs of one launch into a tree."""
    keys = [None, *(row.launch or None for row in rows), None]
    marks = []
    for (before, own), (_, after) in pairwise(pairwise(keys)):
        joined = own is not None
        above, below = joined and before == own, joined and after == own
        marks.append({(0, 1): "┌ ", (1, 1): "├ ", (1, 0): "└ "}.get((above, below), ""))
    return marks


class RunsTable(DataTable[Text]):
    """Shows runs; the cursor stays on its run whatever is added, ends or is filtered."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings((OPEN_KEY, *LIST_KEYS))]

    def __init__(self) -> None:
        super().__init__(cursor_type="row", zebra_stripes=False, show_header=True)
        self._rows: list[RunRow] = []
        self._shape: tuple[tuple[str, int], ...] = ()
        self._shown: list[list[Text]] = []
        self._wanted = ""

    @property
    def chosen(self) -> RunRow | None:
        """The run under the cursor."""
        return self._rows[self.cursor_row] if self._rows and self.cursor_row >= 0 else None

    def put_cursor_on(self, run_id: str) -> None:
        """Move to that run, now or as soon as it is shown."""
        self._wanted = run_id
        for index, row in enumerate(self._rows):
            if row.id == run_id:
                self.move_cursor(row=index)
                self._wanted = ""

    def show(self, rows: Sequence[RunRow], at: float, redraw: bool = False) -> None:
        """Show these runs as they are at the time `at`; `redraw` after the colours changed."""
        theme = self.app.current_theme
        table = [
            _cells(row, mark, at, theme) for row, mark in zip(rows, branches(rows), strict=True)
        ]
        shape = _shape(table, self.scrollable_content_region.width or self.size.width)
        lines = [_line(line, shape) for line in table]
        same_runs = [row.id for row in rows] == [row.id for row in self._rows]
        if same_runs and shape == self._shape and not redraw:
            self._change(lines)
            self._rows = list(rows)
        else:
            self._refill(rows, lines, shape)
        self._shown = lines

    def _change(self, lines: list[list[Text]]) -> None:
        for y, (old, new) in enumerate(zip(self._shown, lines, strict=True)):
            for x, (before, after) in enumerate(zip(old, new, strict=True)):
                if before != after or before.style != after.style:
                    self.update_cell_at((y, x), after)  # type: ignore[arg-type]

    def _refill(
        self, rows: Sequence[RunRow], lines: list[list[Text]], shape: tuple[tuple[str, int], ...]
    ) -> None:
        wanted = self._wanted or (self.chosen.id if self.chosen else "")
        before, scroll = self.cursor_row, self.scroll_y
        self._rows = list(rows)
        self.clear(columns=True)
        for name, width in shape:
            title = Text(name, justify="right" if name in _RIGHT else "left")
            self.add_column(title, width=width, key=name)
        for row, line in zip(rows, lines, strict=True):
            self.add_row(*line, key=row.id)
        self._shape = shape
        self.move_cursor(row=max(0, min(before, len(rows) - 1)), scroll=False)
        self.scroll_to(y=scroll, animate=False)
        self.put_cursor_on(wanted)


def _cells(row: RunRow, mark: str, at: float, theme: Theme) -> dict[str, Text]:
    state = row.state
    alive = not state.ended and state.word != "unreadable"
    dot = ALIVE_DOT if alive else ENDED_DOT
    steps = of_total(state.step, state.total) if state.step or state.total else ""
    return {
        "STATE": Text(f"{dot} {state.word}", style=state_style(state.word, theme)),
        "STAGE": Text(clip(row.stage, 10)),
        "NAME": Text(mark + clip(row.name, 60)),
        "STEP": Text(steps),
        "KL": Text(number(row.kl) if row.kl is not None else ""),
        "SCORE": Text(number(row.score) if row.score is not None else ""),
        "AGE": Text(age_text(at - row.created), style="dim"),
        "DEVICE": Text(clip(row.device, 8), style="dim"),
    }


def _shape(table: list[dict[str, Text]], room: int) -> tuple[tuple[str, int], ...]:
    """Columns and their widths: the name takes what is left, others go while it has too little."""
    widths = {
        name: max([cells(name), *(cells(line[name].plain) for line in table)]) for name in COLUMNS
    }
    needed = min(widths["NAME"], NAME_CELLS)

    def left() -> int:
        return room - sum(width + 2 for name, width in widths.items() if name != "NAME") - 2

    for name in _DROPPED_FIRST:
        if left() < needed:
            del widths[name]
    widths["NAME"] = max(needed, left())
    return tuple(widths.items())


def _line(line: dict[str, Text], shape: tuple[tuple[str, int], ...]) -> list[Text]:
    shown = []
    for name, width in shape:
        cell = line[name].copy()
        cell.truncate(width, overflow="ellipsis")
        cell.justify = "right" if name in _RIGHT else "left"
        shown.append(cell)
    return shown
