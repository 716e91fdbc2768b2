"""The compared runs as a table: state, step, last and best figures; a cursor chooses one."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from workbench.board import LETTERS, slot_colour
from workbench.commands.text import cells, clip, of_total
from workbench.comparison import FIGURES, WITHOUT_BEST, Figure, figure_names
from workbench.format import short
from workbench.keys import Key, bindings
from workbench.lanes import Lane

LANE_KEYS = (
    Key("lanes.down", "down,j", "move(1)", "Down", "Next run", show=False),
    Key("lanes.up", "up,k", "move(-1)", "Up", "Run before", show=False),
)
LABELS = {"response_tokens": "tokens", "token_accuracy": "tok acc", "accuracy": "acc"}
LABELS |= {"eval_loss": "eval loss", "eval_accuracy": "eval acc", "kl": "KL"}
FIGURE_WIDTH, BEST_WIDTH = 9, 13
SIGNS_WIDTH, STEP_WIDTH, NAME_LEAST = 4, 10, 12


class LaneTable(Widget, can_focus=True):
    """One line a run under a head; the figures that fit, the chosen metric first."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(LANE_KEYS)]
    DEFAULT_CSS = """
    LaneTable {
        height: auto; border: round $panel; padding: 0 1; border-title-color: $foreground;
        &:focus { border: round $primary; }
    }
    """
    cursor: reactive[int] = reactive(0)

    class Chosen(Message):
        """A run was double-clicked."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.border_title = "runs"
        self._lanes: Sequence[Lane] = ()
        self._hidden: frozenset[str] = frozenset()

    @property
    def current(self) -> Lane | None:
        return self._lanes[self.cursor] if self.cursor < len(self._lanes) else None

    def show(self, lanes: Sequence[Lane], hidden: frozenset[str]) -> None:
        """Show these runs; the cursor stays in their midst."""
        grown = len(lanes) != len(self._lanes)
        self._lanes, self._hidden = list(lanes), hidden
        self.cursor = min(self.cursor, max(0, len(lanes) - 1))
        self.refresh(layout=grown)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        return 1 + len(self._lanes)

    def render(self) -> Content:
        if not self._lanes:
            return Content("no run is compared; a adds one")
        states = [lane.snapshot.state for lane in self._lanes]
        steps = [of_total(state.step, state.total) for state in states]
        step_width = max(STEP_WIDTH, *(len(step) + 2 for step in steps))
        state_width = 2 + max(len("state"), *(len(lane.word) for lane in self._lanes))
        fixed = SIGNS_WIDTH + state_width + step_width
        names = figure_names([lane.tally for lane in self._lanes])
        columns, used = _columns(names, self.size.width - fixed - NAME_LEAST)
        name_width = min(40, self.size.width - fixed - used)
        head = " " * SIGNS_WIDTH + f"{'state':<{state_width}}{'run':<{name_width}}"
        head += f"{'step':>{step_width}}" + "".join(f"{label:>{w}}" for label, w, _ in columns)
        lines = [Content(head).stylize("dim")]
        for index, (lane, step) in enumerate(zip(self._lanes, steps, strict=True)):
            hidden = " (hidden)" if lane.run.id in self._hidden else ""
            name = clip(f"{lane.name}{hidden}", name_width - 1)
            text = f"{lane.word:<{state_width}}"
            text += name + " " * (name_width - cells(name)) + f"{step:>{step_width}}"
            text += "".join(f"{_cell(lane, what):>{w}}" for _, w, what in columns)
            line = Content.assemble(self._signs(index, lane, bool(hidden)), text)
            lines.append(line.stylize(self._style(index, bool(hidden))))
        return Content("\n").join(lines)

    def _signs(self, index: int, lane: Lane, hidden: bool) -> tuple[str, str]:
        """The cursor and the run's letter, with a stroke in its colour while it is shown."""
        cursor = "▸" if index == self.cursor else " "
        colour = slot_colour(lane.slot, self.app.current_theme.dark)
        return f"{cursor}{' ' if hidden else '━'}{LETTERS[lane.slot]} ", f"bold {colour}"

    def _style(self, index: int, hidden: bool) -> str:
        if index == self.cursor:
            return "on $block-cursor-background" if self.has_focus else "bold"
        return "dim" if hidden else ""

    def action_move(self, by: int) -> None:
        if self._lanes:
            self.cursor = (self.cursor + by) % len(self._lanes)

    def on_click(self, event: events.Click) -> None:
        row = event.y - 2
        if 0 <= row < len(self._lanes):
            self.cursor = row
            if event.chain == 2:
                self.post_message(self.Chosen())


Column = tuple[str, int, str]


def _columns(names: Sequence[str], room: int) -> tuple[list[Column], int]:
    """Label, width and content of the figures that fit into `room`, and the room they take."""
    wanted: list[Column] = []
    for name in sorted(names, key=FIGURES.index):
        label = LABELS.get(name, name)
        wanted.append((label, max(FIGURE_WIDTH, len(label) + 2), name))
        if name not in WITHOUT_BEST:
            wanted.append(("best", BEST_WIDTH, f"best {name}"))
    wanted.append(("s/step", FIGURE_WIDTH, "pace"))
    # A figure without its best is still worth its place.
    while sum(width for _, width, _ in wanted) > room and wanted:
        bests = [column for column in wanted if column[0] == "best"]
        last = bests[-1] if len(bests) > 1 else wanted[-1]
        wanted.remove(last)
    return wanted, sum(width for _, width, _ in wanted)


def _cell(lane: Lane, what: str) -> str:
    if what == "pace":
        return short(lane.tally.seconds)
    figure: Figure | None = lane.tally.figures.get(what.removeprefix("best "))
    if not what.startswith("best "):
        return short(figure.last if figure else None)
    if figure is None or figure.best is None:
        return "–"
    return f"{short(figure.best)} @{figure.best_step}"
