"""The runs of one pipeline in a row, each with its state: `sft done → ppo running 40 %`."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.binding import BindingType
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.style import Style
from textual.widgets import Static

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.pipeline import pipeline_of
from rlhf_engine.runs.sample import printable
from rlhf_engine.runs.state import RunState, run_state
from workbench.keys import Key, bindings
from workbench.screens.seen import is_seen
from workbench.unreadable import DELETED, UNREADABLE

POLL_SECONDS = 2.0
STYLES = {"done": "$success", "running": "$accent", "failed": "$error", "lost": "$error"}
PIPELINE_KEYS = (
    Key("pipeline.before", "left", "choose(-1)", "Before", "The run of the stage before"),
    Key("pipeline.next", "right", "choose(1)", "Next", "The run of the next stage"),
    Key("pipeline.open", "enter", "open", "Open", "Open the chosen run's monitor"),
)


@dataclass(frozen=True)
class StageState:
    """One run of a pipeline under its stage's name."""

    name: str
    run: RunDir
    state: RunState

    @property
    def words(self) -> str:
        """The state as a word, of one that runs also how far it is."""
        step, total = self.state.step, self.state.total
        if self.state.word == "running" and total:
            return f"running {100 * step // total} %"
        return self.state.word


def stage_states(run: RunDir) -> list[StageState]:
    """The states of all runs that were launched together with this one; empty if it was alone."""
    return [StageState(name, run, _state(run)) for name, run in pipeline_of(run).items()]


def _state(run: RunDir) -> RunState:
    if not run.spec_file.exists():
        return RunState(DELETED)
    try:
        return run_state(run)
    except (sqlite3.Error, OSError, ValueError) as error:
        return RunState(UNREADABLE, str(error))


def row_text(states: Sequence[StageState], here: RunDir, chosen: RunDir | None = None) -> Content:
    """The row; the run that is `here` stands in brackets."""
    parts: list[Content | tuple[str, str]] = []
    for stage in states:
        text = printable(f"{stage.name} {stage.words}")
        text = f"[{text}]" if stage.run == here else text
        style = STYLES.get(stage.state.word, "$text-muted")
        style += " bold" if stage.run == here else ""
        style += " reverse" if stage.run == chosen else ""
        parts += [Content(" → ")] if parts else []
        # A click asks what is written under it: the row may wrap.
        parts.append(Content.styled(text, style).stylize(Style.from_meta({"run": stage.run.id})))
    return Content.assemble(*parts)


class PipelineRow(Static, can_focus=True):
    """Follows the runs launched together with one; takes no room where that was alone."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(PIPELINE_KEYS)]
    DEFAULT_CSS = """
    PipelineRow {
        height: auto; max-height: 2; padding: 0 1; display: none;
        &.-pipeline { display: block; }
    }
    """

    @dataclass
    class Opened(Message):
        """A person wants to see another run of the pipeline."""

        run: RunDir

    @dataclass
    class _Read(Message):
        states: list[StageState]

    def __init__(self, run: RunDir) -> None:
        super().__init__()
        self._run = run
        self._chosen: RunDir | None = None
        self.states: list[StageState] = []

    def on_mount(self) -> None:
        self._look()
        self.set_interval(POLL_SECONDS, self._look)

    def _look(self) -> None:
        if is_seen(self.screen):
            self.run_worker(self._read, thread=True, exclusive=True, exit_on_error=False)

    def _read(self) -> None:
        states = stage_states(self._run)
        if self.is_running:
            self.post_message(self._Read(states))

    @on(_Read)
    def _on_read(self, message: _Read) -> None:
        message.stop()
        if message.states != self.states:
            self.states = message.states
            self.set_class(bool(self.states), "-pipeline")
            self._show()

    def _show(self) -> None:
        chosen = self._chosen if self.has_focus else None
        self.update(row_text(self.states, self._run, chosen))

    def on_focus(self) -> None:
        self._chosen = self._run
        self._show()

    def on_blur(self) -> None:
        self._show()

    def action_choose(self, by: int) -> None:
        runs = [stage.run for stage in self.states]
        if self._chosen in runs:
            place = runs.index(self._chosen) + by
            self._chosen = runs[max(0, min(len(runs) - 1, place))]
            self._show()

    def action_open(self) -> None:
        stage = next((stage for stage in self.states if stage.run == self._chosen), None)
        if stage is None or stage.run == self._run:
            return
        if stage.state.word == DELETED:
            self.notify(
                f"{stage.run.id} was deleted: choose another", severity="warning", markup=False
            )
        else:
            self.post_message(self.Opened(stage.run))

    def on_click(self, event: Click) -> None:
        """A click on a stage chooses and opens it."""
        clicked = event.style.meta.get("run")
        for stage in self.states:
            if stage.run.id == clicked:
                self._chosen = stage.run
                self.action_open()
