"""A response token by token: coloured by a figure, with a cursor on one token."""

from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from rlhf_engine.runs.sample import Sample
from workbench.token_colours import Figure
from workbench.token_layout import Layout

NOTHING = Figure("none", (), 1.0)


class TokenText(ScrollView, can_focus=False):
    """Draws the tokens of one sample; without recorded tokens its text, and no cursor."""

    DEFAULT_CSS = """
    TokenText {
        border: round $panel; height: 1fr; scrollbar-size-vertical: 1;
        border-title-color: $foreground; border-subtitle-color: $text-muted;
    }
    """

    @dataclass
    class Pointed(Message):
        """A token was clicked."""

        token: int

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._pieces: tuple[str, ...] = ()
        self._cursor: int | None = None
        self._figure = NOTHING
        self._glyphs = False
        self._made: tuple[object, ...] = ()
        self._layout = Layout.of((), 1)

    def show(self, sample: Sample, cursor: int | None, figure: Figure, glyphs: bool) -> None:
        """Draw a sample; the cursor's line comes into sight."""
        self._pieces = tuple(sample.pieces) or (sample.response or "(nothing)",)
        self._cursor, self._figure, self._glyphs = cursor, figure, glyphs
        self._arrange()
        if cursor is not None and cursor < len(self._layout.line_of):
            line, height = self._layout.line_of[cursor], self.size.height
            top = int(self.scroll_y)
            if not top <= line < top + height:
                self.scroll_to(y=max(0, line - height // 2), animate=False, immediate=True)
        self.refresh()

    def clear(self) -> None:
        """Show nothing."""
        self._pieces, self._cursor = (), None
        self._arrange()

    def on_resize(self) -> None:
        self._arrange()

    def _arrange(self) -> None:
        """Wrap anew where the text or the width is another."""
        width = max(1, self.scrollable_content_region.width or self.size.width)
        made = (self._pieces, width, self._glyphs)
        if made == self._made:
            return
        fresh = not self._made or self._made[0] != self._pieces
        self._made = made
        self._layout = Layout.of(self._pieces, width, self._glyphs)
        self.virtual_size = Size(width, len(self._layout.lines))
        if fresh:
            self.scroll_to(y=0, animate=False, immediate=True)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        row = int(self.scroll_y) + y
        if row >= len(self._layout.lines):
            return Strip.blank(width, base)
        parts = [
            Segment(text, base + self._style(token)) for text, token in self._layout.lines[row]
        ]
        return Strip(parts).adjust_cell_length(width, base)

    def _style(self, token: int) -> Style:
        if token == self._visible_cursor:
            return self._figure.style(token) + Style(reverse=True, bold=True)
        return self._figure.style(token) if self._figure.values else Style()

    @property
    def _visible_cursor(self) -> int | None:
        """The cursor's token; of one without text the next that has some."""
        token = self._cursor
        if token is None or self._glyphs:
            return token
        while token < len(self._pieces) - 1 and not self._pieces[token]:
            token += 1
        return token

    def on_click(self, event: events.Click) -> None:
        place = event.get_content_offset(self)
        row = int(self.scroll_y) + place.y if place is not None else -1
        if place is None or not 0 <= row < len(self._layout.lines):
            return
        column = place.x
        for text, token in self._layout.lines[row]:
            column -= Segment(text).cell_length
            if column < 0:
                self.post_message(self.Pointed(token))
                return
