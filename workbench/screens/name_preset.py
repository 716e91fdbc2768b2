"""Asking for the name of a preset to save."""

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from rlhf_engine.job.presets import own_presets
from workbench.keys import Key, bindings
from workbench.own_presets import name_problem
from workbench.screens.dialog import Dialog

NAME_KEYS = (Key("name.drop", "escape", "drop", "Drop", "Save nothing"),)


class NamePreset(Dialog[str]):
    """Gives the name typed, or none at all; a name that is taken is asked for twice."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(NAME_KEYS)]
    DEFAULT_CSS = """
    NamePreset {
        align: center middle;
        & > Vertical {
            width: 64; max-width: 94%; height: auto; padding: 1 2;
            border: round $primary; background: $surface;
        }
        Input { margin-top: 1; }
        #hint { color: $text-muted; margin-top: 1; }
    }
    """

    def __init__(self, home: Path, offered: str) -> None:
        super().__init__()
        self._home, self._offered = home, offered
        self._asked = ""

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content("Save as a preset of your own").stylize("bold"))
            yield Static(Content(f"It is written to {self._home / 'presets'}"))
            yield Input(self._offered, compact=True, max_length=61)
            yield Static(id="hint")

    def on_input_changed(self, event: Input.Changed) -> None:
        self._asked = ""
        self._hint()

    def _hint(self) -> None:
        name = self.query_one(Input).value.strip()
        problem = name_problem(self._home, name)
        if problem:
            words, style = f"! {problem}", "$error"
        elif self._asked == name:
            words, style = f"{name} exists: enter again replaces it · esc saves nothing", "$warning"
        elif name in own_presets(self._home):
            words, style = f"{name} exists · enter asks · esc saves nothing", "$text-muted"
        else:
            words, style = "enter saves · esc saves nothing", "$text-muted"
        self.query_one("#hint", Static).update(Content.styled(words, style))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        name = event.value.strip()
        if name_problem(self._home, name):
            self._hint()
        elif name in own_presets(self._home) and self._asked != name:
            self._asked = name
            self._hint()
        else:
            self.dismiss(name)

    def action_drop(self) -> None:
        self.dismiss("")
