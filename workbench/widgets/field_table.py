"""The fields in which the specs of compared runs differ, a column for each run."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from workbench.board import LETTERS, slot_colour
from workbench.commands.text import cells, clip
from workbench.comparison import differing
from workbench.keys import Key, bindings
from workbench.lanes import Lane

LABEL_MOST = 30
FIELD_KEYS = (
    Key("fields.down", "down,j", "scroll_down", "Down", "One line down", show=False),
    Key("fields.up", "up,k", "scroll_up", "Up", "One line up", show=False),
    # Else the scrolling pane takes them.
    Key("fields.next", "right", "screen.metric(1)", "Metric", "Next metric", show=False),
    Key("fields.previous", "left", "screen.metric(-1)", "Metric", "Metric before", show=False),
)


class FieldTable(VerticalScroll):
    """Says what was asked of the runs differently; a turned knob shows both values."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(FIELD_KEYS)]
    DEFAULT_CSS = """
    FieldTable {
        border: round $panel; padding: 0 1; height: auto; border-title-color: $foreground;
        &:focus { border: round $primary; }
        Static { width: 1fr; height: auto; }
    }
    """

    def compose(self) -> ComposeResult:
        yield Static()

    def show(self, lanes: Sequence[Lane], width: int, dark: bool) -> None:
        """Show the differences between these runs in `width` cells."""
        found = [lane.settings() for lane in lanes]
        names = differing(found)
        self.border_title = f"differing fields · {len(names)}"
        if not names:
            text = (
                "no field of their specs differs"
                if len(lanes) > 1
                else "one run differs in nothing"
            )
            self._update(Content(text))
            return
        label = min(LABEL_MOST, 2 + max(map(len, names)))
        room = max(8, (width - label) // len(lanes))
        head: list[str | tuple[str, str]] = [" " * label]
        head += [
            (f"{LETTERS[lane.slot]:<{room}}", f"bold {slot_colour(lane.slot, dark)}")
            for lane in lanes
        ]
        lines = [Content.assemble(*head)]
        for name in names:
            line = f"{clip(name, label - 1):<{label}}"
            for values in found:
                cell = clip(str(values[name]), room - 1) if name in values else "–"
                line += cell + " " * (room - cells(cell))
            lines.append(Content(line.rstrip()))
        self._update(Content("\n").join(lines))

    def _update(self, content: Content) -> None:
        self.query_one(Static).update(content)
