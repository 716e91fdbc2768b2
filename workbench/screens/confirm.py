"""A question before something that cannot be taken back: yes or no, or a name typed out."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from rlhf_engine.runs.sample import printable
from workbench.keys import CONFIRM_KEYS, bindings
from workbench.screens.dialog import Dialog


class ConfirmScreen(Dialog[bool]):
    """Asks a question; True for yes, which `verb` names. With `typed`, yes is that text typed."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(CONFIRM_KEYS)]
    DEFAULT_CSS = """
    ConfirmScreen {
        align: center middle;
        & > Vertical {
            width: 64; max-width: 94%; height: auto; padding: 1 2;
            border: round $warning; background: $surface;
        }
        #hint { color: $text-muted; margin-top: 1; }
        Input { margin-top: 1; }
    }
    """

    def __init__(
        self, question: str, detail: str = "", verb: str = "yes", *, typed: str | None = None
    ) -> None:
        super().__init__()
        self._question = printable(question)
        self._detail = printable(detail)
        self._verb = verb
        self._typed = typed

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(self._question).stylize("bold"))
            if self._detail:
                yield Static(Content(self._detail))
            if self._typed is None:
                yield Static(Content(f"y {self._verb.lower()} · n or esc no"), id="hint")
            else:
                yield Input(placeholder=printable(self._typed))
                yield Static(Content("type the name, then enter · esc no"), id="hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.value == self._typed:
            self.dismiss(True)
        else:
            self.query_one("#hint", Static).update(
                Content(f"that is not {printable(self._typed or '')} · esc no")
            )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # `y` belongs to the name while one is typed.
        return not (action == "yes" and self._typed is not None)

    def action_yes(self) -> None:
        self.dismiss(True)

    def action_no(self) -> None:
        self.dismiss(False)
