"""The line in which a filter is typed; the list narrows with each letter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from rlhf_engine.runs.sample import printable
from workbench.runs_filter import FilterError, parse_filter
from workbench.runs_list import RunRow

Keep = Callable[[Sequence[RunRow]], list[RunRow]]


class FilterLine(Vertical):
    """Hidden until `ask`; stays while it filters, and says what is wrong with what it holds."""

    DEFAULT_CSS = """
    FilterLine {
        display: none; height: auto;
        Input { height: 1; border: none; padding: 0 1; background: $surface; }
        Static { display: none; padding: 0 1; color: $error; }
    }
    """

    @dataclass
    class Changed(Message):
        """What the list should keep from now on."""

        keep: Keep

    @dataclass
    class Left(Message):
        """The person has finished typing."""

    def compose(self) -> ComposeResult:
        yield Static()
        yield Input(placeholder="kind:ppo kl>8 -state:lost, or words", compact=True)

    def ask(self) -> None:
        """Show the line and take the keys."""
        self.display = True
        self.query_one(Input).focus()

    def clear(self) -> None:
        """Filter nothing, and go."""
        self.query_one(Input).value = ""
        self.display = False
        self.post_message(self.Left())

    @on(Input.Changed)
    def _parse(self, event: Input.Changed) -> None:
        event.stop()
        told = self.query_one(Static)
        try:
            self.post_message(self.Changed(parse_filter(event.value)))
            told.display = False
        except FilterError as error:
            told.update(Content(printable(str(error))))
            told.display = True

    @on(Input.Submitted)
    def _leave(self, event: Input.Submitted) -> None:
        event.stop()
        self.display = bool(event.value)
        self.post_message(self.Left())
