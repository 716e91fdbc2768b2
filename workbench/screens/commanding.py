"""The run screens' verbs: what is sent to a run, asked before, and started again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from textual import on, work
from textual.events import Key as KeyPressed
from textual.message import Message

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.knobs import knob_values
from rlhf_engine.job.spec import Spec
from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import start_engine
from workbench.screens.confirm import ConfirmScreen
from workbench.screens.fork import ForkScreen
from workbench.screens.rollback import RollbackScreen
from workbench.screens.run_screen import RunScreen
from workbench.unreadable import DELETED, UNREADABLE
from workbench.widgets.return_points import Point, return_points
from workbench.widgets.steering import Steering

if TYPE_CHECKING:
    from workbench.app import WorkbenchApp

CLIENT = "tui"


class CommandScreen(RunScreen):
    """A screen whose keys steer the run that it follows."""

    spec: Spec
    steering: Steering

    @dataclass
    class Told(Message):
        """How something that a thread did went."""

        text: str
        severity: str = "information"

    @property
    def cursor_step(self) -> int | None:
        """The step that a person points at; None if they do not."""
        return None

    @property
    def metrics(self) -> tuple[tuple[str, str], ...]:
        """Names and labels of the figures by which a step is told from another."""
        return ()

    def on_key(self, event: KeyPressed) -> None:
        """Why a key did nothing is said until the next one; esc takes it away by itself."""
        if event.key != "escape" and self.steering.problem:
            self.steering.problem = ""
            self.call_after_refresh(self.redraw)

    def post(self, *commands: tuple[inbox.Kind, dict[str, Any]]) -> None:
        """Put commands into the run's inbox, or say why there is no sense in it."""
        state = self.snapshot.state
        if self._is_gone():
            return
        if state.ended:
            again = "; r resumes it" if state.resumable else "; F forks it"
            self.refuse(f"not sent: the run is {state.word} and takes no commands{again}")
        else:
            self._send(*commands)
            self.redraw()

    def _is_gone(self) -> bool:
        """Whether the run is deleted or cannot be read; if so, say that nothing is sent."""
        gone = self.snapshot.state.word in (UNREADABLE, DELETED)
        if gone:
            self.refuse(f"not sent: {self.snapshot.problem}")
        return gone

    def _send(self, *commands: tuple[inbox.Kind, dict[str, Any]]) -> None:
        steering = self.steering
        steering.asked, steering.problem = [], ""
        try:
            for kind, body in commands:
                steering.asked.append(inbox.send(self.run.inbox, kind, body, CLIENT))
        except OSError as error:
            steering.problem = f"not sent: {error}; put that right, then press the key again"
        steering.sent |= set(steering.asked)

    def refuse(self, why: str) -> None:
        """Say beside the knobs why something was not done."""
        self.steering.problem = why
        self.redraw()

    def action_pause(self) -> None:
        self.post(("resume" if self.snapshot.state.word == "paused" else "pause", {}))

    def action_checkpoint(self) -> None:
        self.post(("checkpoint", {}))

    def action_evaluate(self) -> None:
        self.post(("evaluate", {}))

    def action_stop(self) -> None:
        if self.snapshot.state.ended or self._is_gone():
            self.post(("stop", {}))
            return
        text = "It saves a checkpoint and ends; it can be resumed from there."
        self._ask(f"Stop {self.run.id}?", text, "Stop", lambda: self.post(("stop", {})))

    def _ask(self, question: str, detail: str, verb: str, then: Callable[[], object]) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                then()
                self.redraw()

        self.app.push_screen(ConfirmScreen(question, detail, verb), answered)

    def action_resume(self) -> None:
        """Go on with a run that is paused or has ended before its end."""
        state = self.snapshot.state
        if state.word == "paused":
            self.post(("resume", {}))
        elif state.resumable:
            self._start(f"{self.run.id} goes on")
        elif state.ended:
            self.refuse(f"the run is {state.word}: there is nothing to resume; F forks it")
        elif not self._is_gone():
            self.refuse(f"the run is {state.word}: there is nothing to resume; p pauses it")

    @work(thread=True, group="start")
    def _start(self, told: str) -> None:
        try:
            start_engine(self.run)
        except (SpecError, OSError) as error:
            self.post_message(self.Told(f"{self.run.id}: {error}", "error"))
        else:
            self.post_message(self.Told(told))

    @on(Told)
    def _pass_on(self, event: Told) -> None:
        self.bench.tell(event.text, event.severity)

    @property
    def bench(self) -> "WorkbenchApp":
        """The application, as the one that it is."""
        return cast("WorkbenchApp", self.app)

    def _points(self, to_start: bool) -> list[Point]:
        return return_points(self.snapshot, self.spec, self.metrics, to_start)

    def action_rollback(self) -> None:
        """Choose a step to go back to, ask, and send it; a run that has ended is started again."""
        state = self.snapshot.state
        if self._is_gone():
            return
        if state.word == "done":
            self.refuse(f"{self.run.id} is done and stays as it is; F goes on from a step of it")
            return
        if not (points := self._points(to_start=True)):
            self.refuse("no step to go back to yet; c saves a checkpoint")
            return

        def chosen(step: int | None) -> None:
            if step is not None:
                self._ask_rollback(step)

        self.app.push_screen(RollbackScreen(self.run.id, points, self.cursor_step), chosen)

    def _ask_rollback(self, step: int) -> None:
        state = self.snapshot.state
        lost = max(0, state.step - step)
        detail = f"{lost} step{'' if lost == 1 else 's'} after it become history, and the later"
        detail += " checkpoints are removed. F forks instead and keeps both."
        if state.ended:
            detail += f" The run is {state.word}: its engine is started again."

        def go() -> None:
            self._send(("rollback", {"step": step}))
            if self.snapshot.state.resumable and not self.steering.problem:
                self._start(f"{self.run.id} is started to go on from step {step}")

        self._ask(f"Roll back to step {step}?", detail, "Roll back", go)

    def action_fork(self) -> None:
        """Make a new run from a checkpoint, and open its monitor."""
        if not (points := self._points(to_start=False)):
            alive = not self.snapshot.state.ended
            self.refuse(f"no checkpoint to fork from{'; c saves one' if alive else ''}")
            return

        def forked(run: RunDir | None) -> None:
            if run is not None:
                self.bench.open_monitor(run)
                self.bench.tell(f"forked: {run.id}")

        start = knob_values(self.spec)
        rows = {row.step: row.knobs for row in self.snapshot.steps}
        known = [(point, start | rows.get(point.step, {})) for point in points]
        screen = ForkScreen(self.run, self.spec, known, self.cursor_step)
        self.app.push_screen(screen, forked)
