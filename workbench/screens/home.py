"""The list of runs: open, resume, duplicate, stop, delete, filter."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Resize
from textual.message import Message
from textual.screen import Screen
from textual.theme import Theme
from textual.widgets import DataTable, OptionList, Static

from rlhf_engine.runs.sample import printable
from workbench.keys import RUNS_KEYS, bindings
from workbench.runs_list import RunRow, RunsList
from workbench.screens import home_verbs as verbs
from workbench.screens.confirm import ConfirmScreen
from workbench.screens.home_detail import Detail
from workbench.screens.home_empty import EmptyHome, PresetChoice
from workbench.screens.home_filter import FilterLine, Keep
from workbench.screens.home_gpus import gpu_line
from workbench.screens.home_table import WIDE, RunsTable
from workbench.screens.home_title import title_line
from workbench.screens.home_verbs import Told
from workbench.screens.seen import is_seen
from workbench.unreadable import UNREADABLE
from workbench.widgets.key_line import KeyLine

if TYPE_CHECKING:
    from workbench.app import WorkbenchApp

REFRESH_SECONDS = 1.0
# The first runs are shown after so long, while the others are still read.
FIRST_SECONDS = 0.2
AGES_SECONDS = 10.0
NEED_RUNS = frozenset(
    {"open", "mark", "compare", "resume", "duplicate", "stop", "delete", "filter", "clear"}
)


class HomeScreen(Screen[None]):
    """Every run of the home, newest first, read once a second in a thread."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(RUNS_KEYS)]
    DEFAULT_CSS = """
    HomeScreen {
        #title { height: 1; padding: 0 1; background: $panel; }
        #list { height: 1fr; }
        RunsTable { height: 1fr; background: $background; }
        #none { height: 1fr; padding: 1 2; color: $text-muted; display: none; }
    }
    """

    @dataclass
    class Listed(Message):
        """The runs as they were read."""

        rows: list[RunRow]
        unread: int = 0
        gpus: str = ""
        problem: str = ""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self._home = home
        self._list = RunsList(home)
        self._rows: list[RunRow] | None = None
        self._gpus = ""
        self._problem = ""
        self._keep: Keep = list
        self._unread = 0
        self._shown_at = 0.0
        self._reading = False
        self._prepared = False

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        with Vertical(id="list"):
            yield RunsTable("runs")
            yield Static(id="none")
            yield Detail()
        yield EmptyHome(self._home)
        yield FilterLine()
        yield KeyLine()

    async def on_mount(self) -> None:
        self.query_one(EmptyHome).display = False
        self.app.theme_changed_signal.subscribe(self, self._recolour)
        self.set_interval(REFRESH_SECONDS, self.look_again)
        self._reading = True
        # The first picture has the runs in it unless they take long to read; whoever leaves
        # meanwhile ends the reading, which is no error.
        reading = asyncio.gather(self._read().wait(), return_exceptions=True)
        await asyncio.wait([reading], timeout=FIRST_SECONDS)

    def on_screen_resume(self) -> None:
        self._shown_at = 0.0
        self.look_again()

    def look_again(self) -> None:
        """Read the runs anew unless that is under way, or nobody sees them."""
        if is_seen(self) and not self._reading:
            self._reading = True
            self._read()

    @work(thread=True, group="read")
    def _read(self) -> None:
        try:
            rows = self._list.read(FIRST_SECONDS if self._rows is None else math.inf)
            gpus = gpu_line() if self._rows is not None else ""
            listed = self.Listed(rows, self._list.unread, gpus)
        except OSError as error:
            listed = self.Listed(
                [], problem=f"the runs cannot be read: {error}; see workbench doctor"
            )
        finally:
            self._reading = False
        self.post_message(listed)

    @on(Listed)
    def _take(self, event: Listed) -> None:
        told = (event.gpus, event.problem, event.unread)
        news = told != (self._gpus, self._problem, self._unread) or self._differs(event.rows)
        self._rows, (self._gpus, self._problem, self._unread) = event.rows, told
        if not event.unread and not event.problem:
            self._bench.board.keep({row.id for row in event.rows})
        if news or self._is_old(event.rows):
            self._show()
        if event.unread:
            self.look_again()
        elif not self._prepared:
            self._prepared = True
            self.set_timer(REFRESH_SECONDS / 2, self._prepare)

    @work(thread=True, group="prepare")
    def _prepare(self) -> None:
        """Load what the likely next key opens, while nobody waits for it."""
        import workbench.screens.monitor  # noqa: F401

    def _differs(self, rows: list[RunRow]) -> bool:
        before = self._rows
        if before is None or len(before) != len(rows):
            return True
        return any(new is not old for new, old in zip(rows, before, strict=True))

    def _is_old(self, rows: list[RunRow]) -> bool:
        """Whether the ages have moved on."""
        return bool(rows) and time.time() - self._shown_at > AGES_SECONDS

    def _recolour(self, _: Theme) -> None:
        self._show(redraw=True)

    def on_resize(self, event: Resize) -> None:
        self.query_one(KeyLine).show_command_palette = event.size.width >= WIDE
        self.call_after_refresh(self._show)

    @property
    def _bench(self) -> "WorkbenchApp":
        return cast("WorkbenchApp", self.app)

    @property
    def _table(self) -> RunsTable:
        return self.query_one(RunsTable)

    def _show(self, redraw: bool = False) -> None:
        if self._rows is None or not self.is_mounted:
            return
        self._shown_at = time.time()
        empty = not self._rows and not self._problem
        self._show_empty(empty)
        kept = self._keep(self._rows)
        none = self.query_one("#none", Static)
        none.display = not kept
        self._table.display = bool(kept)
        said = self._problem or "no run fits this filter; esc shows all"
        none.update(Content(printable(said)), layout=not kept)
        width = self._table.size.width or self.size.width
        self._table.show(kept, width, self._bench.board, time.time())
        if redraw:
            self._table.repaint()
        marked = len(self._bench.board.runs)
        line = title_line(self._rows, kept, self._unread, marked, self._gpus)
        self.query_one("#title", Static).update(line, layout=False)
        self._show_detail()

    def _show_empty(self, empty: bool) -> None:
        page, listed = self.query_one(EmptyHome), self.query_one("#list")
        if page.display != empty or listed.display == empty:
            page.display, listed.display = empty, not empty
            self.refresh_bindings()
            if empty:
                self.query_one(PresetChoice).focus()
            elif self.focused is None or not self.focused.display or self.focused in page.query():
                self._table.focus()
        if empty:
            page.greet()

    @on(DataTable.RowHighlighted)
    def _show_detail(self) -> None:
        row = self._table.current
        self.query_one(Detail).show(row, self._table.left_out(row) if row else ())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._rows != [] or action not in NEED_RUNS

    def action_open(self) -> None:
        if row := self._chosen():
            self._bench.open_monitor(row.run)

    @on(DataTable.RowSelected)
    def _open_clicked(self) -> None:
        self.action_open()

    @on(OptionList.OptionSelected)
    def _open_preset(self, event: OptionList.OptionSelected) -> None:
        self._bench.open_form(preset=event.option_id)

    def _chosen(self) -> RunRow | None:
        row = self._table.current if self._table.display else None
        if row is None:
            self._bench.tell("choose a run first")
        return row

    def action_resume(self) -> None:
        row = self._chosen()
        if row is None:
            return
        if row.state.resumable:
            self._do(partial(verbs.start, row))
        elif row.state.word == "paused":
            self._do(partial(verbs.post, row, "resume", "it goes on"))
        else:
            self._bench.tell(
                f"{row.id} is {row.state.word}: nothing to resume; d copies it", "warning"
            )

    @work(thread=True, group="verbs")
    def _do(self, verb: Callable[[], Told]) -> None:
        self.post_message(verb())

    @on(Told)
    def _pass_on(self, event: Told) -> None:
        if event.spec is not None:
            self._bench.open_form(spec=event.spec)
            return
        self._bench.tell(event.text, event.severity)
        self.look_again()

    def action_duplicate(self) -> None:
        if row := self._chosen():
            self._do(partial(verbs.duplicate, row))

    def action_mark(self) -> None:
        """Mark the run, or take its mark off, and go on to the next line."""
        row = self._chosen()
        if row is None:
            return
        board = self._bench.board
        if row.id in board.marks:
            board.remove(row.run)
        elif not board.add(row.run):
            self._bench.tell("four runs are compared at most: space takes a mark off", "warning")
            return
        self._table.action_cursor_down()
        self._show()

    def action_compare(self) -> None:
        """Compare the marked runs; with fewer than two, the chosen one too."""
        board, row = self._bench.board, self._table.current if self._table.display else None
        if row is not None and len(board.runs) < 2:
            board.add(row.run)
        self._bench.action_compare()

    def action_stop(self) -> None:
        row = self._chosen()
        if row is None:
            return
        if row.state.ended or row.state.word == UNREADABLE:
            self._bench.tell(f"{row.id} is {row.state.word} already", "warning")
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._do(partial(verbs.post, row, "stop", "it saves a checkpoint first"))

        detail = "It saves a checkpoint; r goes on from there."
        self.app.push_screen(ConfirmScreen(f"Stop {row.id}?", detail, "stop"), answered)

    def action_delete(self) -> None:
        row = self._chosen()
        if row is None:
            return
        if not (row.state.ended or row.state.word == UNREADABLE):
            self._bench.tell(f"{row.id} is {row.state.word}: stop it first (x)", "warning")
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._do(partial(verbs.delete, row))

        detail = "Its checkpoints, samples and output go too; there is no way back."
        if readers := [other.name for other in self._rows or [] if row.id in other.reads]:
            detail += f"\nRead by: {', '.join(readers)}."
        self.app.push_screen(ConfirmScreen(f"Delete {row.id}?", detail, typed=row.name), answered)

    def action_filter(self) -> None:
        self.query_one(FilterLine).ask()

    def action_clear(self) -> None:
        if self.query_one(FilterLine).display:
            self.query_one(FilterLine).clear()
        elif self._bench.board.runs:
            self._bench.board.clear()
            self._show()

    @on(FilterLine.Changed)
    def _filter(self, event: FilterLine.Changed) -> None:
        self._keep = event.keep
        self._show()

    @on(FilterLine.Left)
    def _to_the_list(self) -> None:
        self._table.focus()
