"""The samples of a run, one line each: only the page around the cursor is held."""

from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from rlhf_engine.runs.listing import SampleLine, Selection
from workbench.commands.text import cells, clip
from workbench.format import within
from workbench.samples_feed import SampleView

NAMES = {"newest": "newest", "score": "score", "kl": "KL", "net_reward": "net reward"}
HEAD = "   step kind    score {third:>6}  len response"


class SampleList(Widget):
    """Draws the lines around the cursor; the mouse chooses and moves like the keys."""

    DEFAULT_CSS = """
    SampleList {
        border: round $panel; border-title-color: $foreground;
        & > .sample-list--cursor {
            background: $block-cursor-background; color: $block-cursor-foreground;
        }
        & > .sample-list--head { color: $text-muted; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"sample-list--cursor", "sample-list--head"}

    @dataclass
    class Moved(Message):
        """The mouse asks for so many samples on, or back."""

        by: int

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._view = SampleView()
        self._cursor = 0
        self._marked: int | None = None
        self._top = 0
        self._words = ""

    def show(self, view: SampleView, cursor: int, marked: int | None, words: str = "") -> None:
        """Draw a page with the cursor on the sample of this number; `words` where it is empty."""
        self._view, self._cursor, self._marked, self._words = view, cursor, marked, words
        self.border_title = Content(heading(view, cursor))
        self._scroll()
        self.refresh()

    def on_resize(self) -> None:
        self._scroll()

    def _scroll(self) -> None:
        """Keep the cursor inside, and no empty lines below the last sample."""
        if not self.size.height:
            return
        rows = max(1, self.size.height - 1)
        self._top = min(self._top, self._cursor)
        self._top = max(self._top, self._cursor - rows + 1, 0)
        self._top = max(0, min(self._top, self._view.total - rows))

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        style = self.rich_style
        if y == 0 and self._view.total:
            style += self.get_component_rich_style("sample-list--head")
            third = "net" if self._by_net else "KL"
            return _strip(HEAD.format(third=third), width, style)
        if not self._view.total:
            lines = _wrapped(self._words, width)
            return _strip(lines[y] if y < len(lines) else "", width, style)
        number = self._top + y - 1
        index = number - self._view.start
        if number >= self._view.total or not 0 <= index < len(self._view.lines):
            return _strip("" if number >= self._view.total else "   …", width, style)
        if number == self._cursor:
            style += self.get_component_rich_style("sample-list--cursor")
        return _strip(self._text(self._view.lines[index], number, width), width, style)

    def _text(self, line: SampleLine, number: int, width: int) -> str:
        sign = "▸" if number == self._cursor else " "
        sign = "◆" if line.seq == self._marked else sign
        third = line.net_reward if self._by_net else line.kl
        figures = f"{within(line.score, 6):>7}{within(third, 6):>7}"
        head = f"{sign}{line.step:>6} {line.kind:<6}{figures} {line.length:>4} "
        return head + clip(line.response or "(nothing)", max(4, width - len(head)))

    @property
    def _by_net(self) -> bool:
        return self._view.want.selection.order == "net_reward"

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.post_message(self.Moved(3))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.post_message(self.Moved(-3))

    def on_click(self, event: events.Click) -> None:
        place = event.get_content_offset(self)
        if place is not None and place.y > 0:
            self.post_message(self.Moved(self._top + place.y - 1 - self._cursor))


def heading(view: SampleView, cursor: int) -> str:
    """Which samples in which order, and where the cursor stands among them."""
    chosen = view.want.selection
    parts = ["same prompt" if chosen.prompt_id else "samples", order_words(chosen)]
    if chosen.kind:
        parts.append(f"{chosen.kind} only")
    if chosen.text:
        parts.append(f"with “{clip(chosen.text, 16)}”")
    if view.total:
        parts.append(f"{cursor + 1:,}/{view.total:,}")
    return " · ".join(parts)


def order_words(chosen: Selection) -> str:
    """`newest first`, `lowest KL first`, `longest first`."""
    if chosen.order == "newest":
        return "oldest first" if chosen.reverse else "newest first"
    if chosen.order == "length":
        return "shortest first" if chosen.reverse else "longest first"
    return f"{'lowest' if chosen.reverse else 'highest'} {NAMES[chosen.order]} first"


def _wrapped(words: str, width: int) -> list[str]:
    lines = [""]
    for paragraph in words.split("\n"):
        line = " "
        for word in paragraph.split():
            if cells(line) + cells(word) + 1 > width - 1:
                lines.append(line)
                line = " "
            line += f"{word} "
        lines.append(line)
    return lines


def _strip(text: str, width: int, style: Style) -> Strip:
    strip = Strip([Segment(text, style)])
    return strip.adjust_cell_length(width, style)
