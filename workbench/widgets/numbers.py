"""The numbers behind the charts as text: a page that draws only the lines in sight."""

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from rlhf_engine.runs.reader import StepRow, seconds_of
from rlhf_engine.runs.sample import printable
from workbench.commands.text import clip, clock
from workbench.format import exact, short
from workbench.keys import Key, bindings
from workbench.screens.dialog import Dialog

NARROWEST, WIDEST = 9, 20
NUMBERS_KEYS = (
    Key("numbers.close", "escape,q,enter,t", "close", "Close", "Back to the charts"),
    Key("numbers.down", "j", "scroll(0, 1)", "Down", "One step down", show=False),
    Key("numbers.up", "k", "scroll(0, -1)", "Up", "One step up", show=False),
    Key("numbers.left", "h", "scroll(-10, 0)", "Left", "Columns to the left", show=False),
    Key("numbers.right", "l", "scroll(10, 0)", "Right", "Columns to the right", show=False),
    Key("numbers.first", "g", "first", "First", "To the first step", show=False),
    Key("numbers.last", "G", "last", "Last", "To the last step", show=False),
)


class NumbersPage(Dialog[None]):
    """A table of every figure of every step, opened at one of them."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(NUMBERS_KEYS)]
    DEFAULT_CSS = """
    NumbersPage { align: center middle; }
    Numbers {
        width: 98%; height: 94%; border: round $primary; padding: 0 1; background: $surface;
    }
    """

    def __init__(
        self,
        title: str,
        rows: Sequence[StepRow],
        first: Sequence[str],
        at: int | None = None,
        timed: bool = True,
    ) -> None:
        super().__init__()
        self._title = title
        self._table = Numbers(rows, first, at, timed)

    def compose(self) -> ComposeResult:
        table = self._table
        table.border_title = Content(printable(self._title))
        table.border_subtitle = "esc closes · arrows, pgup and pgdn move · g first · G last"
        yield table

    def on_mount(self) -> None:
        self.query_one(Numbers).focus()

    def action_close(self) -> None:
        self.dismiss()

    def action_scroll(self, columns: int, lines: int) -> None:
        self.query_one(Numbers).scroll_relative(x=columns, y=lines, animate=False)

    def action_first(self) -> None:
        self.query_one(Numbers).scroll_to(y=0, animate=False)

    def action_last(self) -> None:
        table = self.query_one(Numbers)
        table.scroll_to(y=table.max_scroll_y, animate=False)


class Numbers(ScrollView, can_focus=True):
    """Lines of figures; the header and the step's number stay in sight."""

    def __init__(
        self, rows: Sequence[StepRow], first: Sequence[str], at: int | None, timed: bool
    ) -> None:
        super().__init__()
        self._rows, self._at, self._timed = rows, at, timed
        names = dict.fromkeys(name for row in rows for name in row.metrics)
        self._metrics = [name for name in first if name in names]
        self._metrics += [name for name in names if name not in first]
        self._phases = list(dict.fromkeys(name for row in rows for name in row.phases))
        self._knobs = list(rows[-1].knobs) if rows else []
        timing = map(seconds_of, self._phases)
        self._columns = [*(["time"] if timed else []), *self._metrics, *timing, *self._knobs]
        self._widths = [min(WIDEST, max(NARROWEST, len(name))) + 2 for name in self._columns]
        self._head = max(6, len(str(rows[-1].step)) + 2 if rows else 0)

    def on_mount(self) -> None:
        # One line more than there are steps: the header covers the first.
        self.virtual_size = Size(self._head + sum(self._widths), len(self._rows) + 1)
        self.call_after_refresh(self._to_step)

    def _to_step(self) -> None:
        index = next((i for i, row in enumerate(self._rows) if row.step == self._at), None)
        y = len(self._rows) if index is None else max(0, index - self.size.height // 2)
        self.scroll_to(y=y, animate=False)

    def render_line(self, y: int) -> Strip:
        scroll_x, scroll_y = self.scroll_offset
        index = scroll_y + y - 1
        style = self.rich_style
        if y == 0:
            names = [clip(name, WIDEST) for name in self._columns]
            return self._strip("step", names, scroll_x, style + Style(bold=True))
        if not 0 <= index < len(self._rows):
            return Strip.blank(self.size.width, style)
        row = self._rows[index]
        cells = [clock(row.time)] if self._timed else []
        cells += [short(row.metrics[n]) if n in row.metrics else "" for n in self._metrics]
        cells += [short(row.phases[n]) if n in row.phases else "" for n in self._phases]
        cells += [exact(row.knobs[n], 4) if n in row.knobs else "" for n in self._knobs]
        here = row.step == self._at
        head = f"{'▸' if here else ''}{row.step}"
        return self._strip(head, cells, scroll_x, style + Style(bold=here))

    def _strip(self, head: str, cells: Sequence[str], scroll_x: int, style: Style) -> Strip:
        pairs = zip(cells, self._widths, strict=True)
        rest = "".join(cell.rjust(width) for cell, width in pairs)
        text = f"{head:>{self._head}}" + printable(rest)[scroll_x:]
        width = self.size.width
        return Strip([Segment(text[:width].ljust(width), style)], width)
