"""The keys that work now, as a table: those of the focused pane, the screen and everywhere."""

from collections.abc import Mapping
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import ActiveBinding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from workbench.keys import HELP_KEYS, bindings


class HelpScreen(ModalScreen[None]):
    """Shows the active keys of the screen below it, grouped by where they belong."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(HELP_KEYS)]
    DEFAULT_CSS = """
    HelpScreen {
        align: center middle;
        & > VerticalScroll {
            width: 76; max-width: 96%; height: auto; max-height: 94%; padding: 0 2;
            border: round $primary; background: $surface;
            border-title-color: $primary; border-subtitle-color: $text-muted;
        }
    }
    """

    def __init__(self, below: Screen[object]) -> None:
        super().__init__()
        self._groups = active_keys(below.active_bindings)

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = "Keys"
            box.border_subtitle = "esc closes"
            yield Static(self._table())

    def _table(self) -> Table:
        theme = self.app.current_theme
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, min_width=6)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for title, lines in self._groups:
            table.add_row(Text(""), Text(title, style=f"bold {theme.accent}"), Text(""))
            for keys, label, told in lines:
                table.add_row(Text(keys, style=f"bold {theme.primary}"), Text(label), Text(told))
        return table

    def action_close(self) -> None:
        self.dismiss()


Line = tuple[str, str, str]


def active_keys(active: Mapping[str, ActiveBinding]) -> list[tuple[str, list[Line]]]:
    """Keys, label and help of each binding of our tables that works now, by its place."""
    groups: dict[str, dict[str, tuple[list[str], str, str]]] = {}
    for bound in active.values():
        binding = bound.binding
        if not binding.id or not bound.enabled:
            continue
        place = _place(bound.node)
        keys, *_ = groups.setdefault(place, {}).setdefault(
            binding.id, ([], binding.description, bound.tooltip)
        )
        keys.append(bound.node.app.get_key_display(binding))
    order = sorted(groups, key=("Focused pane", "Screen", "Everywhere").index)
    return [
        (place, [(" ".join(keys), label, told) for keys, label, told in groups[place].values()])
        for place in order
    ]


def _place(node: object) -> str:
    if isinstance(node, App):
        return "Everywhere"
    return "Screen" if isinstance(node, Screen) else "Focused pane"
