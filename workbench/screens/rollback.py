"""Choosing the step that a run goes back to."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static

from rlhf_engine.runs.sample import printable
from workbench.keys import Key, bindings
from workbench.screens.dialog import Dialog
from workbench.widgets.return_points import Point, PointList

ROLLBACK_KEYS = (
    Key("rollback.choose", "enter", "choose", "Go back", "Choose this step; asks once more", False),
    Key("rollback.cancel", "escape,q", "cancel", "Cancel", "Leave the run as it is"),
)


class RollbackScreen(Dialog[int]):
    """Lists the steps of a run that it can go back to; the one nearest to the crosshair first."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(ROLLBACK_KEYS)]
    DEFAULT_CSS = """
    RollbackScreen {
        align: center middle;
        & > Vertical {
            width: 84; max-width: 96%; height: auto; max-height: 94%; padding: 1 2;
            border: round $warning; background: $surface;
        }
        #hint { color: $text-muted; margin-top: 1; }
        PointList { margin-top: 1; }
    }
    """

    def __init__(self, name: str, points: Sequence[Point], at: int | None) -> None:
        super().__init__()
        self._name, self._points, self._at = name, points, at

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(printable(f"Roll back {self._name} to")).stylize("bold"))
            yield PointList(self._points, self._at)
            at = f"the crosshair is at step {self._at} · " if self._at is not None else ""
            yield Static(Content(f"{at}enter chooses · esc leaves it as it is"), id="hint")

    def on_mount(self) -> None:
        self.query_one(PointList).focus()

    def on_option_list_option_selected(self, _: OptionList.OptionSelected) -> None:
        self.action_choose()

    def action_choose(self) -> None:
        self.dismiss(self.query_one(PointList).chosen.step)

    def action_cancel(self) -> None:
        self.dismiss()
