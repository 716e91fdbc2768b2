"""The keys that work now, as a table: those of the focused pane, the screen and everywhere."""

from collections.abc import Iterator
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import ActiveBinding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Static

from workbench.keys import HELP_KEYS, bindings
from workbench.themes import rich_style


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
        self._groups = active_keys(below)

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = "Keys"
            box.border_subtitle = "esc closes"
            yield Static(self._table())

    def _table(self) -> Table:
        variables = self.app.theme_variables
        head, pressed = (rich_style(variables, name, bold=True) for name in ("accent", "primary"))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, min_width=6)
        table.add_column(max_width=22)
        table.add_column(overflow="fold")
        for title, lines in self._groups:
            table.add_row(Text(""), Text(title, head), Text(""))
            for keys, label, told in lines:
                table.add_row(Text(keys, pressed), Text(label), Text(told))
        return table

    def action_close(self) -> None:
        self.dismiss()


Line = tuple[str, str, str]
SCREEN, EVERYWHERE, MOVES = "Screen", "Everywhere", "In the focused pane"


def active_keys(below: Screen[object]) -> list[tuple[str, list[Line]]]:
    """Keys, label and help of each binding that works now, by its place, the focused pane first.

    Textual's own bindings of the focused pane come last: they move its cursor.
    """
    groups: dict[str, dict[str, tuple[list[str], str, str]]] = {}
    for bound in (*below.active_bindings.values(), *_in_dialogs_too(below)):
        binding = bound.binding
        own = bool(binding.id)
        if not bound.enabled or not (own or (bound.node is below.focused and binding.description)):
            continue
        place = _place(bound.node) if own else MOVES
        told = (binding.description, bound.tooltip) if own else ("", binding.description)
        keys, *_ = groups.setdefault(place, {}).setdefault(
            binding.id or binding.action, ([], *told)
        )
        keys.append(below.app.get_key_display(binding))
    order = sorted(groups, key=_rank)
    return [
        (place, [(" ".join(keys), label, told) for keys, label, told in groups[place].values()])
        for place in order
    ]


def _in_dialogs_too(below: Screen[object]) -> Iterator[ActiveBinding]:
    """The program's keys that a dialog does not take away; elsewhere they are among the others."""
    if below.is_modal:
        app = below.app
        for _, binding in app._bindings:
            if binding.priority and binding.id:
                yield ActiveBinding(app, binding, True, binding.tooltip)


def _place(node: DOMNode) -> str:
    if isinstance(node, App):
        return EVERYWHERE
    return SCREEN if isinstance(node, Screen) else f"Focused pane: {pane_name(node)}"


def _rank(place: str) -> int:
    return {SCREEN: 1, EVERYWHERE: 2, MOVES: 3}.get(place, 0)


def pane_name(node: DOMNode) -> str:
    """What a person calls a pane: the title in its border, else its name in the program."""
    title = node.border_title if isinstance(node, Widget) else None
    words = Content.from_markup(title).plain.strip() if title else ""
    return words or (node.id or type(node).__name__).replace("-", " ")
