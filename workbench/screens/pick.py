"""Choosing one of many by its name: type to narrow, arrows to move, enter to take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from rlhf_engine.runs.sample import printable
from workbench.keys import Key, bindings
from workbench.screens.dialog import Dialog

SHOWN_MOST = 200
PICK_KEYS = (
    Key("pick.down", "down", "move(1)", "Down", "Next line", show=False),
    Key("pick.up", "up", "move(-1)", "Up", "Line before", show=False),
    Key("pick.cancel", "escape", "cancel", "Back", "Choose nothing"),
)


@dataclass(frozen=True)
class Choice:
    """One thing to choose: what is answered, and what is shown in columns."""

    id: str
    text: str


class PickScreen(Dialog[str | None]):
    """Answers with the id of the choice that was taken; `read` is called in a thread."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(PICK_KEYS)]
    DEFAULT_CSS = """
    PickScreen {
        align: center middle;
        & > Vertical {
            width: 90; max-width: 96%; height: 80%; padding: 0 1;
            border: round $primary; background: $surface; border-subtitle-color: $text-muted;
        }
        Input { height: 1; border: none; padding: 0; background: $panel; }
        OptionList {
            height: 1fr; border: none; padding: 0; background: $surface;
            text-wrap: nowrap; text-overflow: ellipsis;
        }
        Static { color: $text-muted; display: none; }
    }
    """

    @dataclass
    class Found(Message):
        """What there is to choose from."""

        choices: Sequence[Choice]
        problem: str = ""

    def __init__(self, title: str, read: Callable[[], Sequence[Choice]], none: str) -> None:
        super().__init__()
        self._title, self._from, self._none = title, read, none
        self._choices: Sequence[Choice] = ()
        self._was_read = False
        self._hurried = False

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Content(printable(self._title))
            box.border_subtitle = "enter takes · esc goes back"
            yield Input(placeholder="type to narrow", compact=True)
            yield Static()
            choices = OptionList()
            choices.can_focus = False
            yield choices

    def on_mount(self) -> None:
        self._tell("reading…")
        self._read()

    @work(thread=True, group="choices")
    def _read(self) -> None:
        try:
            found = self.Found(self._from())
        except OSError as error:
            found = self.Found((), f"cannot be read: {error}")
        self.post_message(found)

    @on(Found)
    def _take(self, event: Found) -> None:
        self._choices, self._was_read = event.choices, True
        self._fill(event.problem or self._none)
        if self._hurried:
            self._chosen()

    @on(Input.Changed)
    def _narrow(self) -> None:
        if self._was_read:
            self._fill("nothing fits what you typed")

    def _fill(self, none: str) -> None:
        words = self.query_one(Input).value.lower().split()
        fitting = [c for c in self._choices if all(word in c.text.lower() for word in words)]
        shown = self.query_one(OptionList)
        shown.clear_options()
        shown.add_options(
            Option(Content(printable(choice.text)), id=choice.id) for choice in fitting[:SHOWN_MOST]
        )
        shown.highlighted = 0 if fitting else None
        self._tell("" if fitting else none)

    def _tell(self, text: str) -> None:
        told = self.query_one(Static)
        told.display = bool(text)
        told.update(Content(printable(text)))

    def action_move(self, by: int) -> None:
        shown = self.query_one(OptionList)
        if shown.option_count:
            shown.highlighted = ((shown.highlighted or 0) + by) % shown.option_count

    @on(Input.Submitted)
    def _chosen(self) -> None:
        # Who types ahead gets what they asked for once there is something to choose from.
        self._hurried = not self._was_read
        if (option := self.query_one(OptionList).highlighted_option) is not None:
            self.dismiss(option.id)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id)

    def action_cancel(self) -> None:
        self.dismiss(None)
