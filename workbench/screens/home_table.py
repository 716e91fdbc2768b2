"""The table of runs: one line a run, repainted only where it changed, the cursor kept by run."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.binding import BindingType
from textual.coordinate import Coordinate
from textual.widgets import DataTable

from workbench.board import LETTERS, Board, slot_colour
from workbench.commands.text import cells, clip
from workbench.keys import LIST_KEYS, OPEN_KEY, bindings
from workbench.runs_list import RunRow
from workbench.themes import rich_style
from workbench.unreadable import UNREADABLE

# A sign and a theme colour for each word; the word always stands beside them.
STATES = {
    "running": ("●", "success"),
    "starting": ("◌", "primary"),
    "waiting": ("○", "primary"),
    "queued": ("○", "primary"),
    "paused": ("◐", "warning"),
    "not responding": ("!", "error"),
    "done": ("✓", "foreground"),
    "failed": ("✗", "error"),
    "stopped": ("■", "warning"),
    "cancelled": ("–", "foreground"),
    "lost": ("?", "error"),
    UNREADABLE: ("!", "error"),
}
Cell = tuple[str, str]
WIDE = 100
NAME_WIDTH, NOW_WIDTH = 28, 20
# Below this the stage goes, so that names can still be told apart.
WITH_STAGE = 76


@dataclass(frozen=True)
class _Column:
    label: str
    width: int
    right: bool = False


def _columns(width: int) -> list[_Column]:
    """The columns that fit; each width holds a blank to the next column."""
    wide = width >= WIDE
    fixed = [
        _Column("", 2),
        _Column("STATE", 17),
        _Column("STAGE", 9),
        _Column("NAME", NAME_WIDTH),
        _Column("STEP", 14 if wide else 10, right=True),
        _Column("KL", 8 if wide else 7, right=True),
        _Column("SCORE", 8 if wide else 7, right=True),
        _Column("AGE", 6 if wide else 5, right=True),
    ]
    if wide:
        fixed += [_Column(" DEVICE", 8), _Column("NOW", NOW_WIDTH)]
    elif width < WITH_STAGE:
        del fixed[2]
    # The last column of a wide table takes what is left, the name in a narrow one.
    elastic = "NOW" if wide else "NAME"
    spare = width - 2 - sum(column.width for column in fixed)
    return [
        replace(column, width=max(12, column.width + spare)) if column.label == elastic else column
        for column in fixed
    ]


# What a line shows beside its row: mark, branch, age, columns.
_Key = tuple[int | None, str, str, list[_Column]]


class RunsTable(DataTable[Text]):
    """Shows the rows given to `show`; `current` is the run under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings((OPEN_KEY, *LIST_KEYS))]

    def __init__(self, id: str) -> None:
        super().__init__(id=id, cursor_type="row", cell_padding=0, zebra_stripes=False)
        self._rows: list[RunRow] = []
        self._lines: dict[str, tuple[RunRow, _Key, list[Cell]]] = {}
        self._shown: list[list[Cell]] = []
        self._drawn: list[_Column] = []
        self._chosen: str | None = None
        self._stand_in: str | None = None

    @property
    def current(self) -> RunRow | None:
        return self._rows[self.cursor_row] if 0 <= self.cursor_row < len(self._rows) else None

    def left_out(self, row: RunRow) -> list[str]:
        """A run's stage and device, where the table is too narrow for a column of them."""
        labels = {column.label.strip() for column in self._drawn}
        facts = {"STAGE": row.stage, "DEVICE": row.device}
        return [fact for label, fact in facts.items() if fact and label not in labels]

    def show(
        self, rows: Sequence[RunRow], width: int, board: Board, now: float | None = None
    ) -> None:
        """Show these rows in a table `width` cells wide; `now` is for their ages."""
        columns = _columns(width)
        clock = time.time() if now is None else now
        marks = board.marks
        wanted = [
            self._line(row, marks.get(row.id), _branch(rows, i), age(clock - row.created), columns)
            for i, row in enumerate(rows)
        ]
        longer = columns == self._drawn and _ids(rows[: len(self._rows)]) == _ids(self._rows)
        if longer and self._rows:
            shown, self._rows = len(self._rows), list(rows)
            self._update(wanted[:shown])
            for row, line in zip(rows[shown:], wanted[shown:], strict=True):
                self.add_row(*(self._text(cell) for cell in line), key=row.id)
        else:
            self._refill(rows, wanted, columns)
        self._shown = wanted

    def _line(
        self, row: RunRow, slot: int | None, branch: str, old: str, columns: list[_Column]
    ) -> list[Cell]:
        """A row's cells; those of before while nothing in them can have changed."""
        key = (slot, branch, old, columns)
        known = self._lines.get(row.id)
        if known and known[0] is row and known[1] == key:
            return known[2]
        mark = ("", "") if slot is None else (LETTERS[slot], f"slot {slot}")
        line = _cells(row, mark, branch, columns, old)
        self._lines[row.id] = (row, key, line)
        return line

    def repaint(self) -> None:
        """Draw every cell again, in the colours of another theme."""
        for row, line in enumerate(self._shown):
            for column, cell in enumerate(line):
                self.update_cell_at(Coordinate(row, column), self._text(cell))

    def _update(self, wanted: list[list[Cell]]) -> None:
        for row, (line, old) in enumerate(zip(wanted, self._shown, strict=True)):
            if line is old:
                continue
            for column, (cell, before) in enumerate(zip(line, old, strict=True)):
                if cell != before:
                    self.update_cell_at(Coordinate(row, column), self._text(cell))

    def _refill(
        self, rows: Sequence[RunRow], wanted: list[list[Cell]], columns: list[_Column]
    ) -> None:
        chosen, at, scrolled = self._choice(), self.cursor_row, self.scroll_y
        self.clear(columns=columns != self._drawn)
        if columns != self._drawn:
            for column in columns:
                label = column.label.rjust(column.width - 1) if column.right else column.label
                self.add_column(Text(label), width=column.width)
        self._drawn, self._rows = columns, list(rows)
        for row, line in zip(rows, wanted, strict=True):
            self.add_row(*(self._text(cell) for cell in line), key=row.id)
        ids = [row.id for row in rows]
        near = min(at, len(ids) - 1)
        place = next((ids.index(id) for id in (chosen, self._stand_in) if id in ids), near)
        self._chosen = chosen
        self._stand_in = ids[place] if ids and ids[place] != chosen else None
        self.scroll_to(y=scrolled, animate=False)
        self.move_cursor(row=max(0, place), animate=False)

    def _choice(self) -> str | None:
        """The run that the person chose: while a filter hides it, another stands in for it."""
        now = self.current
        return self._chosen if now is None or now.id == self._stand_in else now.id

    def _text(self, cell: Cell) -> Text:
        text, colour = cell
        style: str | Style
        if colour.startswith("slot "):
            style = f"bold {slot_colour(int(colour[5:]), self.app.current_theme.dark)}"
        else:
            style = rich_style(self.app.theme_variables, colour)
        return Text(text, style, no_wrap=True)


def _cells(row: RunRow, mark: Cell, branch: str, columns: list[_Column], old: str) -> list[Cell]:
    sign, colour = STATES.get(row.state.word, ("?", "foreground"))
    quiet = "text-muted" if row.state.ended else "foreground"
    values = {
        "": mark,
        "STATE": (f"{sign} {row.state.word}", colour),
        "STAGE": (row.stage, quiet),
        "NAME": (branch + row.name, "foreground"),
        "STEP": (_step(row, "NOW" in {column.label for column in columns}), quiet),
        "KL": (figure(row.kl), "foreground"),
        "SCORE": (figure(row.score, signed=True), "foreground"),
        "AGE": (old, quiet),
        " DEVICE": (f" {row.device}", quiet),
        "NOW": (_now(row), quiet),
    }
    return [(_fit(values[column.label][0], column), values[column.label][1]) for column in columns]


def _ids(rows: Sequence[RunRow]) -> list[str]:
    return [row.id for row in rows]


def _now(row: RunRow) -> str:
    return {"done": row.figures, "lost": "r resumes it"}.get(row.state.word, row.now)


def _fit(text: str, column: _Column) -> str:
    room = column.width - 1
    lead = text[: len(text) - len(text.lstrip())]
    line = lead + clip(text, room - len(lead))
    return " " * (room - cells(line)) + line if column.right else line


def _branch(rows: Sequence[RunRow], index: int) -> str:
    """The line that joins the runs of one launch."""
    launch = rows[index].launch
    above = index > 0 and rows[index - 1].launch == launch
    below = index + 1 < len(rows) and rows[index + 1].launch == launch
    if not launch or not (above or below):
        return ""
    return "├ " if above and below else "└ " if above else "┌ "


def _step(row: RunRow, wide: bool) -> str:
    state = row.state
    if not state.total:
        return str(state.step) if state.step else ""
    share = f" {state.step / state.total:4.0%}" if wide else ""
    return f"{state.step}/{state.total}{share}"


def figure(value: float | None, signed: bool = False) -> str:
    """A figure in at most six cells; empty where there is none."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    digits = 2 if abs(value) < 100 else 0
    if abs(value) >= 1e5:
        return f"{value:.0e}"
    rounded = round(value, digits) + 0.0  # never "-0.00"
    return f"{rounded:+.{digits}f}" if signed else f"{rounded:.{digits}f}"


def age(seconds: float) -> str:
    """How long ago, in one unit: `12s`, `5m`, `3h`, `9d`."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"
