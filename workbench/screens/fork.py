"""A new run from a checkpoint of another: which one, its name, and what is changed in it."""

import shlex
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList, Static

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.knobs import knobs_of
from rlhf_engine.job.spec import Spec
from rlhf_engine.runs import lineage
from rlhf_engine.runs.directory import RunDir, RunNotFound
from rlhf_engine.runs.sample import printable
from workbench.format import exact
from workbench.keys import Key, bindings
from workbench.screens.dialog import Dialog
from workbench.widgets.return_points import Point, PointList

FORK_KEYS = (
    Key("fork.start", "ctrl+g", "start", "Fork", "Start the new run (enter in a field too)"),
    Key("fork.cancel", "escape", "cancel", "Cancel", "Start nothing"),
)
NAME_HELP = "The new run's name; empty takes the parent's with -fork."
MORE_HELP = "Other fields of the spec as key=value, for example ppo.steps=800."
HINT = "tab next field · ctrl+g or enter starts it · esc cancels"


class ForkScreen(Dialog[RunDir]):
    """Asks what the fork is to be, starts it, and gives its run."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(FORK_KEYS)]
    DEFAULT_CSS = """
    ForkScreen {
        align: center middle;
        & > Vertical {
            width: 88; max-width: 98%; height: auto; max-height: 96%; padding: 0 2;
            border: round $primary; background: $surface;
        }
        PointList { max-height: 5; margin-bottom: 1; }
        VerticalScroll { height: auto; max-height: 14; }
        Horizontal { height: 1; }
        Horizontal > Static { width: 18; }
        Horizontal > Input { width: 1fr; }
        #about { color: $text-muted; height: 2; margin-top: 1; }
        #problem { color: $error; text-style: bold; height: auto; max-height: 6; }
        #hint { color: $text-muted; }
        &.-short {
            & > Vertical { height: 100%; max-height: 100%; }
            PointList { max-height: 3; margin-bottom: 0; }
            VerticalScroll { height: 1fr; max-height: 100%; }
            #about { margin-top: 0; }
        }
    }
    """

    @dataclass
    class Ended(Message):
        """The run that was started, or why there is none."""

        run: RunDir | None
        why: str = ""

    def __init__(
        self, run: RunDir, spec: Spec, points: Sequence[tuple[Point, dict[str, float]]],
        at: int | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._run, self._points, self._at = run, points, at
        self._knobs = knobs_of(type(spec))
        self._forking = False

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(printable(f"Fork {self._run.id} from")).stylize("bold"))
            yield PointList([point for point, _ in self._points], self._at)
            with VerticalScroll(can_focus=False):
                yield from _field("name", "name", "")
                for name in self._knobs:
                    yield from _field(name, f"knob-{name}", "")
                yield from _field("--set", "more", "key=value ...")
            yield Static(id="about")
            yield Static(id="problem")
            yield Static(HINT, id="hint")

    def on_mount(self) -> None:
        self._show_values()
        self.query_one(PointList).focus()

    @on(OptionList.OptionHighlighted)
    def _show_values(self) -> None:
        """A knob that is left empty keeps the value that stands in its field."""
        values = self._points[self.query_one(PointList).highlighted or 0][1]
        for name in self._knobs:
            kept = f"{exact(values[name])} as saved" if name in values else "as saved"
            self.query_one(f"#knob-{name}", Input).placeholder = kept

    @on(OptionList.OptionSelected)
    def _to_name(self) -> None:
        self.query_one("#name", Input).focus()

    def on_descendant_focus(self) -> None:
        self.query_one("#about", Static).update(Content(self._about()))

    def _about(self) -> str:
        name = (self.focused.id or "") if self.focused else ""
        if knob := self._knobs.get(name.removeprefix("knob-")):
            unit = f" · {knob.unit}" if knob.unit else ""
            return printable(f"{knob.bounds}{unit}\n{' '.join(knob.help.split())}")
        return {"name": NAME_HELP, "more": MORE_HELP}.get(name, "The step that it goes on from.")

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.action_start()

    def action_start(self) -> None:
        """Start the fork unless something typed is wrong; then say what."""
        if self._forking:
            return
        try:
            overrides = self._overrides()
        except (SpecError, ValueError) as error:
            self._tell(str(error))
            return
        self._forking = True
        self._tell("")
        self.query_one("#hint", Static).update("checking the checkpoint, starting the fork ...")
        name = self.query_one("#name", Input).value.strip() or None
        self._fork(self.query_one(PointList).chosen.step, overrides, name)

    def _overrides(self) -> list[str]:
        found = []
        for name, knob in self._knobs.items():
            if text := self.query_one(f"#knob-{name}", Input).value.strip():
                found.append(f"{knob.dotted}={knob.parse(text)!r}")
        return found + shlex.split(self.query_one("#more", Input).value)

    @work(thread=True, group="fork")
    def _fork(self, step: int, overrides: list[str], name: str | None) -> None:
        try:
            run = lineage.fork(self._run, step, overrides, name)
        except (SpecError, RunNotFound, OSError, sqlite3.Error) as error:
            self.post_message(self.Ended(None, str(error)))
        else:
            self.post_message(self.Ended(run))

    @on(Ended)
    def _ended(self, event: Ended) -> None:
        self._forking = False
        if event.run is not None:
            self.dismiss(event.run)
        else:
            self._tell(event.why)
            self.query_one("#hint", Static).update(HINT)

    def _tell(self, problem: str) -> None:
        self.query_one("#problem", Static).update(Content(printable(problem)))

    def action_cancel(self) -> None:
        if not self._forking:
            self.dismiss()


def _field(label: str, id: str, placeholder: str) -> ComposeResult:
    with Horizontal():
        yield Static(Content(label))
        yield Input(id=id, placeholder=placeholder, compact=True)
