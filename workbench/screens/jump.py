"""Jump mode: a letter on everything that can take the focus; typing it goes there."""

from collections.abc import Iterator, Sequence
from itertools import islice, product
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.events import Key as KeyPressed
from textual.events import Resize
from textual.geometry import Offset
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Static

from workbench.keys import JUMP_KEYS, bindings

# The home row first.
LETTERS = "asdfghjklqwertyuiopzxcvbnm"


class JumpScreen(ModalScreen[Widget | None]):
    """Shows the letters over the screen below; its result is the widget that was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(JUMP_KEYS)]
    DEFAULT_CSS = """
    JumpScreen {
        background: $background 40%;
        & > Static {
            position: absolute; width: auto; height: 1;
            background: $accent; color: $background; text-style: bold reverse;
        }
        & > #how { background: $surface; color: $foreground; text-style: bold; padding: 0 1; }
    }
    """

    def __init__(self, below: Screen[object]) -> None:
        super().__init__()
        self._targets = labelled(targets(below))
        self._typed = ""
        self._drawn_at = below.size

    def compose(self) -> ComposeResult:
        for label, (_, place) in self._targets.items():
            letter = Static(Content(label))
            letter.offset = place
            yield letter
        how = Static(Content("jump: type the letters · esc leaves"), id="how")
        how.offset = Offset(0, self._drawn_at.height - 1)
        yield how

    def on_key(self, event: KeyPressed) -> None:
        letter = (event.character or "").lower()
        if not letter or letter not in LETTERS:
            return
        event.stop()
        typed = self._typed + letter
        if typed in self._targets:
            self.dismiss(self._targets[typed][0])
        elif any(label.startswith(typed) for label in self._targets):
            self._typed = typed
        else:
            self._typed = ""  # no such label: begin again

    def on_resize(self, event: Resize) -> None:
        # The letters stand where things were before.
        if event.size != self._drawn_at:
            self._drawn_at = event.size
            self.dismiss(None)

    def action_leave(self) -> None:
        self.dismiss(None)


def targets(screen: Screen[object]) -> list[tuple[Widget, Offset]]:
    """What can take the focus and is seen, from top to bottom, with the place of its first cell."""
    found = []
    for widget in screen.focus_chain:
        seen = screen.find_widget(widget).visible_region
        if seen.area:
            found.append((widget, seen.offset))
    return sorted(found, key=lambda item: (item[1].y, item[1].x))


def labels(count: int) -> Iterator[str]:
    """So many labels, none the beginning of another: one letter each, or two where one is short."""
    length = 1 if count <= len(LETTERS) else 2
    return islice(("".join(letters) for letters in product(LETTERS, repeat=length)), count)


def labelled(found: Sequence[tuple[Widget, Offset]]) -> dict[str, tuple[Widget, Offset]]:
    """A label for each target; one inside another that begins at the same cell steps aside."""
    taken: set[Offset] = set()
    shown = {}
    for label, (widget, place) in zip(labels(len(found)), found, strict=False):
        while place in taken:
            place += Offset(len(label), 0)
        taken |= {place + Offset(step, 0) for step in range(len(label))}
        shown[label] = (widget, place)
    return shown
