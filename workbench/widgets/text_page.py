"""A page of plain text over the screen: a whole response, the end of a log."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from rlhf_engine.runs.sample import printable
from workbench.keys import Key, bindings
from workbench.screens.dialog import Dialog

LOG_BYTES = 64 * 1024
REREAD_SECONDS = 1.0
PAGE_KEYS = (
    Key("page.close", "escape,q,enter", "close", "Close", "Back to the monitor"),
    Key("page.down", "j", "scroll(1)", "Down", "One line down", show=False),
    Key("page.up", "k", "scroll(-1)", "Up", "One line up", show=False),
    Key("page.end", "G", "end", "End", "To the end", show=False),
)


class TextPage(Dialog[None]):
    """Shows what `read` gives; with `follow` it is read again and stays at its end."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(PAGE_KEYS)]
    DEFAULT_CSS = """
    TextPage { align: center middle; }
    TextPage > VerticalScroll {
        width: 96%; height: 92%; border: round $primary; padding: 0 1; background: $surface;
    }
    TextPage Static { width: 1fr; height: auto; }
    """

    def __init__(self, title: str, read: Callable[[], str], follow: bool = False) -> None:
        super().__init__()
        self._title, self._read, self._follow = title, read, follow
        self._text = ""

    def compose(self) -> ComposeResult:
        with VerticalScroll() as page:
            page.border_title = Content(printable(self._title))
            page.border_subtitle = "esc closes"
            yield Static()

    def on_mount(self) -> None:
        self._show()
        if self._follow:
            self.set_interval(REREAD_SECONDS, self._show)

    def _show(self) -> None:
        text = printable(self._read())
        if text == self._text:
            return
        page = self.query_one(VerticalScroll)
        at_end = not self._text or page.is_vertical_scroll_end
        self._text = text
        self.query_one(Static).update(Content(text))
        if self._follow and at_end:
            page.scroll_end(animate=False)

    def action_close(self) -> None:
        self.dismiss()

    def action_scroll(self, lines: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def action_end(self) -> None:
        self.query_one(VerticalScroll).scroll_end(animate=False)


def log_tail(path: Path) -> str:
    """The end of a log, whole lines, at most 64 KiB; a word where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return "the engine has written no log"
    if size > LOG_BYTES:
        text = "…\n" + text.partition("\n")[2]
    return text.replace("\r\n", "\n") or "the log is empty"
