"""Up to four runs over each other: a metric, score against KL, what was asked differently."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.theme import Theme
from textual.widgets import Static
from textual.worker import Worker, WorkerState

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.sample import printable
from workbench.board import LETTERS, SLOT_COUNT, SMOOTHINGS, Board
from workbench.commands.text import clip, grid
from workbench.feed import redraw_seconds
from workbench.keys import Key, bindings
from workbench.lanes import Lane, News, Reader
from workbench.runs_list import RunsList
from workbench.screens.pick import Choice, PickScreen
from workbench.screens.seen import is_seen
from workbench.widgets import overlay_pictures as pictures
from workbench.widgets.compare_charts import CompareCharts
from workbench.widgets.compare_numbers import step_lines
from workbench.widgets.field_table import FieldTable
from workbench.widgets.key_line import KeyLine
from workbench.widgets.lane_table import LaneTable
from workbench.widgets.numbers import NumbersPage

if TYPE_CHECKING:
    from workbench.app import WorkbenchApp

COMPARE_KEYS: tuple[Key, ...] = (
    Key("compare.toggle", "space", "show_hide", "Hide", "Show or hide the chosen run"),
    Key("compare.add", "a", "add", "Add", "Add a run, four at most"),
    Key("compare.remove", "backspace", "remove", "Remove", "Take the run out", show=False),
    Key("compare.metric", "slash", "choose_metric", "Metric", "Choose the metric by its name"),
    Key("compare.next", "right", "metric(1)", "Next", "Next metric", show=False),
    Key("compare.previous", "left", "metric(-1)", "Previous", "Metric before", show=False),
    Key("compare.axis", "x", "axis", "Axis", "Over steps, time or KL"),
    Key("compare.layout", "o", "layout", "Grid", "Over each other, or a chart for each run"),
    Key("compare.scale", "y", "scale", "Log", "Logarithmic or linear", show=False),
    Key("compare.smooth", "m", "smooth", "Smooth", "Smoothing .9, .97, none", show=False),
    Key("compare.frontier", "f", "frontier", "Frontier", "Score and gold against sqrt(KL)"),
    Key("compare.fields", "d", "fields", "Fields", "The differing fields on the whole screen"),
    Key("compare.table", "t", "table", "Table", "The numbers behind the charts as text", False),
    Key("compare.open", "enter", "open", "Open", "Open the monitor of the run", show=False),
    Key("compare.back", "escape,q", "back", "Back", "Back to the runs"),
)
NEED_A_RUN = ("show_hide", "remove", "open")


class CompareScreen(Screen[None]):
    """Follows the runs of a board; what is chosen here stays on the board."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(COMPARE_KEYS)]
    AUTO_FOCUS = "LaneTable"
    CSS_PATH = "compare.tcss"

    @dataclass
    class Heard(Message):
        """A run has changed; posted by the thread that reads them all."""

        news: News

    def __init__(self, home: Path, board: Board) -> None:
        super().__init__()
        self._home, self._board = home, board
        self._lanes: dict[str, Lane] = {}
        # Lanes that were taken out too: the reader tells nothing of a run put back at once.
        self._known: dict[str, Lane] = {}
        self._reader = Reader(self._tell)
        self._drawn, self._due = 0.0, False
        self._problem = ""

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        yield CompareCharts(id="charts")
        yield LaneTable(id="lanes")
        yield FieldTable(id="fields")
        yield Static(id="told")
        yield KeyLine()

    def on_mount(self) -> None:
        self._take_board()
        follow = self._reader.follow
        self.run_worker(follow, thread=True, group="feed", exit_on_error=False)
        self.app.theme_changed_signal.subscribe(self, self._recolour)
        if not self._board.runs:
            self.call_after_refresh(self.action_add)

    def on_unmount(self) -> None:
        self._reader.stop.set()

    def _take_board(self) -> None:
        """Follow the runs that the board holds now."""
        marks, before = self._board.marks, self._lanes
        self._lanes = {}
        for run in self._board.runs:
            lane = self._known.setdefault(run.id, Lane(run, marks[run.id]))
            lane.slot = marks[run.id]
            self._lanes[run.id] = lane
        self._reader.wanted = tuple(self._board.runs)
        self._draw()
        # Drawing the footer anew is costly: only when there is a first run, or none is left.
        if bool(before) != bool(self._lanes):
            self.refresh_bindings()

    def _tell(self, news: News) -> None:
        if self.is_running:
            self.post_message(self.Heard(news))

    @on(Heard)
    def _hear(self, event: Heard) -> None:
        lane = self._lanes.get(event.news.run.id)
        if lane is None:
            return
        lane.take(event.news.snapshot)
        lane.spec = event.news.spec or lane.spec
        lane.problem = event.news.problem or lane.problem
        wait = self._drawn + redraw_seconds() - time.monotonic()
        if wait <= 0:
            self._draw()
        elif not self._due:
            self._due = True
            self.set_timer(wait, self._draw)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.ERROR:
            why = f"{event.worker.error}; q, then 5 opens it again"
            self._problem = f"the display has stopped, the runs go on: {why}"
            self._draw()

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def on_screen_resume(self) -> None:
        self._draw()

    def _recolour(self, _: Theme) -> None:
        self._draw()

    # Drawing

    @property
    def _all(self) -> list[Lane]:
        return sorted(self._lanes.values(), key=lambda lane: lane.slot)

    @property
    def _shown(self) -> list[Lane]:
        return [lane for lane in self._all if lane.run.id not in self._board.hidden]

    def _draw(self) -> None:
        self._due = False
        if not self.is_mounted or not is_seen(self):
            return
        self._drawn = time.monotonic()
        board, lanes, shown = self._board, self._all, self._shown
        dark = self.app.current_theme.dark
        for lane in lanes:
            lane.book.update(lane.snapshot.steps, lane.snapshot.generation, board.smoothing)
        self._static("title").update(self._title())
        self.query_one(CompareCharts).show(shown, board)
        self.query_one(LaneTable).show(lanes, frozenset(board.hidden))
        self.query_one(FieldTable).show(lanes, self.size.width - 5, dark)
        told = self._told()
        self._static("told").display = bool(told)
        self._static("told").update(Content(clip(told, self.size.width - 2)))

    def _static(self, name: str) -> Static:
        return self.query_one(f"#{name}", Static)

    def _title(self) -> Content:
        count = len(self._lanes)
        words = [f"{count} run{'' if count == 1 else 's'}"]
        if hidden := count - len(self._shown):
            words.append(f"{hidden} hidden")
        live = sum(lane.word == "running" for lane in self._all)
        words += [f"{live} running"] if live else []
        return Content.assemble(" ", ("Compare", "bold"), "  ", " · ".join(words))

    def _told(self) -> str:
        """What is wrong with a run, and what to do."""
        if self._problem:
            return printable(self._problem)
        for lane in self._all:
            problem = lane.snapshot.problem or lane.problem
            if problem:
                # What else the problem advises is for a screen of this run alone.
                told = problem.partition(";")[0]
                return f"{LETTERS[lane.slot]} {lane.name}: {told}; backspace takes it out"
        return ""

    # Runs

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action not in NEED_A_RUN or bool(self._lanes)

    @property
    def _bench(self) -> "WorkbenchApp":
        return cast("WorkbenchApp", self.app)

    @property
    def _current(self) -> Lane | None:
        return self.query_one(LaneTable).current

    def action_show_hide(self) -> None:
        if lane := self._current:
            self._board.hidden ^= {lane.run.id}
            self._draw()

    def action_remove(self) -> None:
        if lane := self._current:
            self._board.remove(lane.run)
            self._take_board()

    def action_add(self) -> None:
        if len(self._board.runs) == SLOT_COUNT:
            self._bench.tell("four runs are compared at most: backspace takes one out", "warning")
            return
        found: dict[str, RunDir] = {}
        taken = frozenset(run.id for run in self._board.runs)
        read = partial(_choices, self._home, taken, found)
        none = "no other run here; esc goes back, n in the list of runs starts one"

        def answered(run_id: str | None) -> None:
            if run_id is not None:
                self._board.add(found[run_id])
                self._take_board()

        self.app.push_screen(PickScreen("Add a run to compare", read, none), answered)

    @on(LaneTable.Chosen)
    def action_open(self) -> None:
        if lane := self._current:
            if lane.word == "deleted":
                self._bench.tell(f"{lane.name} was deleted: backspace takes it out", "warning")
            else:
                self._bench.open_monitor(lane.run)

    # Display

    def action_metric(self, by: int) -> None:
        names = pictures.metric_names(self._all)
        if names:
            now = pictures.chosen_metric(self._board, self._shown)
            place = names.index(now) + by if now in names else 0
            self._choose(names[place % len(names)])

    def _choose(self, metric: str) -> None:
        self._board.metric, self._board.log = metric, None
        self._draw()

    def action_choose_metric(self) -> None:
        lanes = self._all
        names = pictures.metric_names(lanes)

        def having(name: str) -> str:
            return "".join(LETTERS[lane.slot] if name in lane.names else "·" for lane in lanes)

        choices = [Choice(name, f"{having(name)}  {name}") for name in names]

        def answered(name: str | None) -> None:
            if name is not None:
                self._choose(name)

        none = "no run here has finished a step yet"
        self.app.push_screen(PickScreen("Metric or knob", lambda: choices, none), answered)

    def action_axis(self) -> None:
        axes = pictures.AXES
        self._board.axis = axes[(axes.index(self._board.axis) + 1) % len(axes)]
        self._draw()

    def action_layout(self) -> None:
        self._board.grid = not self._board.grid
        self._draw()

    def action_scale(self) -> None:
        metric = pictures.chosen_metric(self._board, self._shown)
        usual = metric in pictures.LOG_METRICS
        self._board.log = not (usual if self._board.log is None else self._board.log)
        self._draw()

    def action_smooth(self) -> None:
        place = SMOOTHINGS.index(self._board.smoothing) + 1
        self._board.smoothing = SMOOTHINGS[place % len(SMOOTHINGS)]
        self._draw()

    def action_frontier(self) -> None:
        """Where both charts fit beside each other, leave the frontier out; else show it alone."""
        folded = self.has_class("-narrow")
        self.toggle_class("-frontier" if folded else "-alone")
        self.call_after_refresh(self._draw)

    def action_table(self) -> None:
        metric = pictures.chosen_metric(self._board, self._shown)
        rows, columns = step_lines(self._shown, metric, self._board.axis)
        if not rows:
            self._bench.tell("no numbers yet: no run shown has done a step; a adds another")
            return
        title = f"{metric}, score and gold of {len(self._shown)} runs, as measured"
        self.app.push_screen(NumbersPage(title, rows, columns, timed=False))

    def action_fields(self) -> None:
        self.toggle_class("-fields")
        if self.has_class("-fields"):
            self.query_one(FieldTable).focus()
        else:
            self.query_one(LaneTable).focus()
        self.call_after_refresh(self._draw)

    def action_back(self) -> None:
        if self.has_class("-fields"):
            self.action_fields()
        else:
            self.app.pop_screen()


def _choices(home: Path, taken: frozenset[str], found: dict[str, RunDir]) -> list[Choice]:
    """The runs of a home that are not compared yet, newest first."""
    rows = [row for row in RunsList(home).read() if row.id not in taken]
    found |= {row.id: row.run for row in rows}
    cells = [
        (clip(row.name, 36), row.stage, row.state.word, str(row.state.step), row.id[:15])
        for row in rows
    ]
    lines = grid(["", "", "", "", ""], cells)[1:]
    return [Choice(row.id, line) for row, line in zip(rows, lines, strict=True)]
