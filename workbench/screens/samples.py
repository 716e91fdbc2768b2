"""The samples of one run: every token with its figures, a prompt across steps, a prompt of one's
own."""

import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input, Static
from textual.worker import Worker, WorkerState

from rlhf_engine.job.errors import SpecError
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.listing import ORDERS
from rlhf_engine.runs.reader import SampleRow
from rlhf_engine.runs.sample import printable
from workbench.keys import Key, bindings
from workbench.samples_feed import SamplesFeed, SampleView, Want
from workbench.screens.seen import is_seen
from workbench.widgets.ask_pane import AskPane
from workbench.widgets.key_line import KeyLine
from workbench.widgets.response_words import empty_words, full_text, title_line
from workbench.widgets.sample_list import SampleList
from workbench.widgets.sample_reading import SampleReading
from workbench.widgets.text_page import TextPage
from workbench.widgets.token_text import TokenText

KINDS = ("", "train", "eval", "draft", "asked")
SAMPLES_KEYS: tuple[Key, ...] = (
    Key("samples.next", "down,j", "move(1)", "Next", "Next sample", show=False),
    Key("samples.before", "up,k", "move(-1)", "Before", "Sample before", show=False),
    Key("samples.page", "pagedown", "move(10)", "Ten on", "Ten samples on", show=False),
    Key("samples.page_before", "pageup", "move(-10)", "Ten back", "Ten samples back", show=False),
    Key("samples.first", "full_stop", "first", "First", "To the first sample of the list", False),
    Key("samples.right", "right,l", "token(1)", "Token", "Next token", show=False),
    Key("samples.left", "left,h", "token(-1)", "Token before", "Token before", show=False),
    Key("samples.extreme", "n", "extreme(1)", "Extreme", "Next extreme token"),
    Key("samples.extreme_before", "N", "extreme(-1)", "Extreme before", "Extreme before", False),
    Key("samples.colour", "v", "colour", "Colours", "Log-ratio, advantage, value, reward, none"),
    Key("samples.glyphs", "t", "glyphs", "Blanks", "Blanks and ends of lines as signs", False),
    Key("samples.order", "o", "order", "Order", "Newest, score, KL, net reward, length"),
    Key("samples.reverse", "O", "reverse", "Reverse", "The other way round", show=False),
    Key("samples.kind", "f", "kind", "Kind", "All, training, held-out, drafts, asked", show=False),
    Key("samples.search", "slash", "search", "Search", "Words in the prompt or the response"),
    Key("samples.step", "g", "step", "Step", "Go to a step"),
    Key("samples.prompt", "p", "prompt", "Same prompt", "The same prompt across steps, or all"),
    Key("samples.mark", "space", "mark", "Mark", "Mark a sample to compare others with", False),
    Key("samples.diff", "d", "diff", "Diff", "Words that differ from the marked sample", False),
    Key("samples.ask", "i", "ask", "Ask", "Type a prompt for the policy of this moment"),
    Key("samples.read", "enter", "read", "Read", "The response; the whole text", show=False),
    Key("samples.pane", "tab", "pane", "Pane", "List or response on a small screen", show=False),
    Key("samples.down", "ctrl+d", "scroll(1)", "Scroll", "Scroll the response", show=False),
    Key("samples.up", "ctrl+u", "scroll(-1)", "Scroll back", "Scroll the response", show=False),
    Key("samples.back", "escape", "escape", "Back", "Drop the search, the diff; back", show=False),
    Key("samples.leave", "q", "leave", "Back", "Back to where you came from"),
)


class SamplesScreen(Screen[None]):
    """Follows a run's samples; the cursor stays on its sample while new ones arrive."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(SAMPLES_KEYS)]
    AUTO_FOCUS = ""
    CSS_PATH = "samples.tcss"

    @dataclass
    class Read(Message):
        """The run was read; posted by the thread that reads it."""

        view: SampleView

    def __init__(self, run: RunDir, seq: int | None = None) -> None:
        super().__init__()
        self.run = run
        self.title = run.id[16:]
        self._stage: str = ""
        with suppress(SpecError):
            self._stage = run.spec().stage
        self.view = SampleView()
        self._want = Want(seq=seq)
        self._feed = SamplesFeed(run, self._want)
        self._stop = threading.Event()
        self._marked: SampleRow | None = None
        self._diff = False
        self._line = ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While something is typed or asked, the keys of the list rest."""
        typing = self.has_class("-line") or self.has_class("-asking")
        return not typing or action in ("escape", "leave", "pane", "ask")

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        with Horizontal(id="body"):
            yield SampleList(id="list")
            yield SampleReading(id="reading")
        yield AskPane(self.run, id="ask")
        yield Input(id="line")
        yield KeyLine()

    def on_mount(self) -> None:
        follow = partial(self._feed.follow, self._tell, self._stop)
        self.run_worker(follow, thread=True, group="samples", exit_on_error=False)
        self._draw()

    def on_unmount(self) -> None:
        self._stop.set()
        self._feed.stop()

    def _tell(self, view: SampleView) -> None:
        if self.is_running and not self._stop.is_set():
            self.post_message(self.Read(view))

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.ERROR:
            again = "q, then 4 opens it again"
            words = f"the display has stopped, the run goes on: {event.worker.error}; {again}"
            self.view = replace(self.view, problem=words)
            self._draw()

    def on_samples_screen_read(self, message: Read) -> None:
        """Take what was read, unless the cursor has gone on meanwhile."""
        view = message.view
        if view.want != self._want:
            return
        self.view = view
        row = view.sample
        if row is not None and (view.want.seq, view.want.step) != (row.seq, None):
            self._look(seq=row.seq, step=None)
        self._draw()

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def on_screen_resume(self) -> None:
        self._draw()

    # Drawing

    def _draw(self) -> None:
        if not self.is_mounted or not is_seen(self):
            return
        view = self.view
        title = title_line(self.title or "", self._stage, view, self.size)
        self.query_one("#title", Static).update(title)
        marked = self._marked.seq if self._marked else None
        words = empty_words(self.run, self._stage, view)
        self.query_one(SampleList).show(view, view.place, marked, words)
        self._reading.show(view, self._marked if self._diff else None)
        self.query_one(AskPane).show(view)

    @property
    def _reading(self) -> SampleReading:
        return self.query_one(SampleReading)

    # The list

    def _look(self, **changes: Any) -> None:
        """Want something else; the thread reads it."""
        self._want = replace(self._want, **changes)
        self._feed.ask_for(self._want)

    def action_move(self, by: int) -> None:
        """Go to another sample; its line is there already, its tokens are read."""
        view = self.view
        place = max(0, min(view.total - 1, view.place + by))
        index = place - view.start
        if not 0 <= index < len(view.lines):
            return
        line = view.lines[index]
        self.view = replace(view, place=place)
        self._look(seq=line.seq, step=None)
        self.query_one(SampleList).show(
            self.view, place, self._marked.seq if self._marked else None
        )

    @on(SampleList.Moved)
    def _moved(self, message: SampleList.Moved) -> None:
        self.action_move(message.by)

    def action_first(self) -> None:
        self._look(seq=None, step=None)

    def _select(self, **changes: Any) -> None:
        self._look(selection=replace(self._want.selection, **changes))

    def action_order(self) -> None:
        order = self._want.selection.order
        self._select(order=ORDERS[(ORDERS.index(order) + 1) % len(ORDERS)], reverse=False)
        self.action_first()

    def action_reverse(self) -> None:
        self._select(reverse=not self._want.selection.reverse)
        self.action_first()

    def action_kind(self) -> None:
        kind = self._want.selection.kind
        self._select(kind=KINDS[(KINDS.index(kind) + 1) % len(KINDS)])

    def action_prompt(self) -> None:
        """The cursor's prompt across steps, with the sample under the cursor marked."""
        row = self.view.sample
        if self._want.selection.prompt_id:
            self._select(prompt_id="")
        elif row is not None:
            self._marked = row
            self._select(prompt_id=row.sample.prompt_id, kind="", text="")

    def action_mark(self) -> None:
        row = self.view.sample
        same = row is not None and self._marked is not None and row.seq == self._marked.seq
        self._marked = None if same else row
        self._draw()

    def action_diff(self) -> None:
        if self._marked is None:
            self._say("mark a sample with space, go to another one, then d")
            return
        self._diff = not self._diff
        self._draw()

    # Tokens

    def action_token(self, by: int) -> None:
        self._reading.go(by)

    @on(TokenText.Pointed)
    def _pointed(self, message: TokenText.Pointed) -> None:
        self._reading.go_to(message.token)

    def action_extreme(self, way: int) -> None:
        self._say(self._reading.go_to_extreme(way))

    def action_colour(self) -> None:
        self._say(self._reading.next_colours())

    def action_glyphs(self) -> None:
        self._reading.toggle_glyphs()

    def action_scroll(self, way: int) -> None:
        self._reading.scroll_text(way)

    def action_read(self) -> None:
        """The response where only the list is shown, else the whole text."""
        if self._folded and not self.has_class("-reading"):
            self.add_class("-reading")
            self.call_after_refresh(self._draw)
        elif self.view.sample is not None:
            text = full_text(self.view.sample)
            self.app.push_screen(TextPage(f"step {self.view.sample.step}", lambda: text))

    def action_pane(self) -> None:
        if self.has_class("-asking"):
            self.focus_next()
            return
        self.toggle_class("-reading")
        self.call_after_refresh(self._draw)

    @property
    def _folded(self) -> bool:
        return self.has_class("-narrow") or self.has_class("-short")

    # Lines to type in

    def _open_line(self, name: str, title: str, value: str = "") -> None:
        self._line = name
        line = self.query_one("#line", Input)
        line.placeholder, line.value = title, value
        self.add_class("-line")
        line.focus()
        self.refresh_bindings()

    def action_search(self) -> None:
        words = "words in the prompt or the response; ⏎ searches, empty shows all"
        self._open_line("search", words, self._want.selection.text)

    def action_step(self) -> None:
        self._open_line("step", "a step; ⏎ goes there, or to the nearest one before it")

    @on(Input.Submitted, "#line")
    def _line_sent(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if self._line == "search":
            self._select(text=text)
        elif text.isdecimal():
            self._look(step=int(text))
        elif text:
            self._say(f"{text!r} is no step; type a number")
            return
        self._close_line()

    def _close_line(self) -> None:
        self.remove_class("-line")
        self.set_focus(None)
        self.refresh_bindings()

    # Asking

    def action_ask(self) -> None:
        self.add_class("-asking")
        self.query_one("#question", Input).focus()
        self.refresh_bindings()
        self._draw()

    @on(AskPane.Sent)
    def _question_sent(self, message: AskPane.Sent) -> None:
        self._look(asked=message.command)

    # Back

    def action_escape(self) -> None:
        """One step back: a line, the question, the diff, the search, the response, the screen."""
        selection = self._want.selection
        if self.has_class("-line"):
            self._close_line()
        elif self.has_class("-asking"):
            self.remove_class("-asking")
            self.set_focus(None)
            self.refresh_bindings()
            self.call_after_refresh(self._draw)
        elif self._diff:
            self.action_diff()
        elif selection.text or selection.kind or selection.prompt_id:
            self._select(text="", kind="", prompt_id="")
        elif self.has_class("-reading") and self._folded:
            self.action_pane()
        else:
            self.action_leave()

    def action_leave(self) -> None:
        if self.has_class("-line") or self.has_class("-asking"):
            self.action_escape()
        else:
            self.app.pop_screen()

    def _say(self, text: str) -> None:
        if text:
            self.notify(printable(text), markup=False, timeout=6)
