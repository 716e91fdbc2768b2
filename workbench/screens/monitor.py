"""The live monitor of one run: how it goes, and the knobs to turn while it trains."""

import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Static
from textual.worker import Worker, WorkerState

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.guards import guards_of
from rlhf_engine.job.knobs import knob_values, knobs_of
from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.sample import printable
from rlhf_engine.runs.state import RunState
from workbench.commands.text import clip
from workbench.feed import RunFeed, Snapshot, redraw_seconds
from workbench.format import exact, short
from workbench.keys import Key, bindings
from workbench.screens.confirm import ConfirmScreen
from workbench.screens.seen import is_seen
from workbench.widgets.advice import advice
from workbench.widgets.chart import Chart
from workbench.widgets.head import event_line, phase_line, title_line
from workbench.widgets.health import Health, worries
from workbench.widgets.knob_panel import KnobPanel, said
from workbench.widgets.pictures import (
    PLANS,
    SMOOTHINGS,
    WINDOWS,
    View,
    legend,
    picture,
    title,
)
from workbench.widgets.sample_table import SampleTable
from workbench.widgets.series import SeriesBook
from workbench.widgets.steering import Steering
from workbench.widgets.text_page import TextPage, log_tail

if TYPE_CHECKING:
    from workbench.app import WorkbenchApp

CLIENT = "tui"
MONITOR_KEYS: tuple[Key, ...] = (
    Key("monitor.knobs", "k", "knobs", "Knobs", "To the knobs: choose one, type a value"),
    Key("monitor.lower", "[", "scale(0.8)", "×0.8", "Stage the KL coefficient ×0.8"),
    Key("monitor.raise", "]", "scale(1.25)", "×1.25", "Stage the KL coefficient ×1.25"),
    Key("monitor.halve", "{", "scale(0.5)", "×0.5", "Stage the KL coefficient ×0.5", show=False),
    Key("monitor.double", "}", "scale(2.0)", "×2", "Stage the KL coefficient ×2", show=False),
    Key("monitor.send", "enter", "send", "Send", "Send what is staged", show=False),
    Key("monitor.previous", "z", "previous", "Previous", "Stage the value before", show=False),
    Key("monitor.advice", "a", "advice", "Advice", "Stage what a guard advises", show=False),
    Key("monitor.pause", "p", "pause", "Pause", "Pause after this phase, or go on"),
    Key("monitor.checkpoint", "c", "checkpoint", "Save", "Save a checkpoint after this step"),
    Key("monitor.stop", "X", "stop", "Stop", "Save a checkpoint and end the run; asks first"),
    Key("monitor.samples", "s", "samples", "Samples", "The newest responses on the whole screen"),
    Key("monitor.log", "L", "log", "Engine log", "The end of the engine's log", show=False),
    Key("monitor.freeze", "f", "freeze", "Freeze", "Stop the display; the run goes on", show=False),
    Key("monitor.scale", "y", "log_scale", "Log", "Logarithmic or linear", show=False),
    Key("monitor.smooth", "m", "smooth", "Smooth", "Smoothing .97, none, .9", show=False),
    Key("monitor.axis", "x", "axis", "Axis", "Steps or time along the charts", show=False),
    Key("monitor.window", "w", "window", "Window", "All steps, last 500, last 100", show=False),
    Key("monitor.back", "escape", "escape", "Drop/back", "Drop what is staged; back", show=False),
    Key("monitor.leave", "q", "back", "Back", "Back to the runs; the engine goes on"),
)


class MonitorScreen(Screen[None]):
    """Follows a run from before its first word to after its end."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(MONITOR_KEYS)]
    AUTO_FOCUS = ""
    CSS_PATH = "monitor.tcss"

    @dataclass
    class Changed(Message):
        """The run has changed; posted by the thread that reads it."""

        snapshot: Snapshot

    def __init__(self, run: RunDir) -> None:
        super().__init__()
        self.run = run
        self.title = run.id[16:]
        self.snapshot = Snapshot(RunState("starting"))
        self._view = View()
        self._held: Snapshot | None = None
        self._book = SeriesBook()
        self._stop = threading.Event()
        self._drawn = 0.0
        self._due = False
        self._problem = ""
        try:
            spec = run.spec()
        except SpecError as error:
            self._problem = str(error)
            return
        self._stage = spec.stage
        self._plans = PLANS[spec.stage]
        self._spec = spec
        self._steering = Steering(knobs_of(type(spec)), knob_values(spec))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without a spec that can be read there is nothing to steer or show."""
        return not self._problem or action in ("back", "log")

    def compose(self) -> ComposeResult:
        if self._problem:
            yield Static(Content(printable(self._problem)))
            yield Footer()
            return
        yield Static(id="title")
        yield Static(id="phase")
        with Horizontal(id="middle"):
            with Vertical(id="charts"):
                yield Chart(id="chart-0")
                yield Chart(id="chart-1")
            with Vertical(id="side"):
                yield KnobPanel(self._steering, id="knobs")
                yield Health(self._spec, id="health")
        yield SampleTable(id="samples")
        yield Static(id="event")
        yield Static(id="knob-line")
        yield Footer()

    def on_mount(self) -> None:
        if self._problem:
            return
        feed = RunFeed(self.run)
        follow = partial(feed.follow, self._tell, self._stop)
        self.run_worker(follow, thread=True, group="feed", exit_on_error=False)
        self._draw()

    def on_unmount(self) -> None:
        self._stop.set()

    def _tell(self, snapshot: Snapshot) -> None:
        if self.is_running and not self._stop.is_set():
            self.post_message(self.Changed(snapshot))

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.ERROR:
            words = f"the display has stopped, the run goes on: {event.worker.error}"
            self.snapshot = replace(self.snapshot, problem=words)
            self._draw()

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def on_screen_resume(self) -> None:
        self._draw()

    def on_monitor_screen_changed(self, message: Changed) -> None:
        """Draw now if the last drawing is long enough ago; else once, later."""
        self.snapshot = message.snapshot
        if self._held or self._due:
            return
        wait = self._drawn + redraw_seconds() - time.monotonic()
        if wait <= 0:
            self._draw()
        else:
            self._due = True
            self.set_timer(wait, self._draw_due)

    def _draw_due(self) -> None:
        self._due = False
        if not self._held:
            self._draw()

    def _draw(self) -> None:
        if self._problem or not self.is_mounted or not is_seen(self):
            return
        self._drawn = time.monotonic()
        snapshot, width = self._held or self.snapshot, self.size.width
        self._book.update(snapshot.steps, snapshot.generation, self._view.smoothing)
        name, frozen = self.run.id[16:], self._held is not None
        self._static("title").update(title_line(name, self._stage, snapshot, frozen, width))
        self._static("phase").update(phase_line(snapshot, width))
        self._static("event").update(event_line(snapshot, width))
        self._static("knob-line").update(self._knob_line())
        for index, plan in enumerate(self._plans):
            shown = picture(plan, snapshot, self._book, self._view)
            chart = self.query_one(f"#chart-{index}", Chart)
            words = title(plan, snapshot, self._view, width >= 100)
            chart.show(shown, words, legend(plan, self._book))
        self.query_one(KnobPanel).show(self.snapshot)
        self.query_one(Health).show(self._book, snapshot)
        self.query_one(SampleTable).show(snapshot.samples)

    def _static(self, name: str) -> Static:
        return self.query_one(f"#{name}", Static)

    def _knob_line(self) -> Content:
        """The knob panel and the health table in one line, for small terminals."""
        if statuses := self._steering.status(self.snapshot):
            return Content.assemble(" ", said(statuses[0]))
        name = self.query_one(KnobPanel).target
        sign = "β" if name == "kl_coef" else name
        parts = [f"{sign} {exact(self._steering.value(name, self.snapshot), 4)}"]
        for plan in self._plans:
            curve = plan.main
            if raw := self._book.get(curve.metric).raw:
                target = self.snapshot.steps[-1].knobs.get(plan.target)
                aim = f" / target {exact(target)}" if target is not None else ""
                parts.append(f"{curve.label} {short(raw[-1])}{aim}")
        parts += worries(self._spec, self._book, self.snapshot)[:1]
        return Content(f" {clip(' · '.join(parts), self.size.width - 2)}")

    # Knobs

    @on(KnobPanel.Edited)
    def _edited(self) -> None:
        self._draw()

    def on_descendant_focus(self) -> None:
        self.call_after_refresh(self._draw)

    def on_descendant_blur(self) -> None:
        self.call_after_refresh(self._draw)

    def action_scale(self, factor: float) -> None:
        self._steering.scale(self.query_one(KnobPanel).target, factor, self.snapshot)
        self._draw()

    def action_previous(self) -> None:
        self._steering.stage_previous(self.query_one(KnobPanel).target, self.snapshot)
        self._draw()

    def action_advice(self) -> None:
        """Stage what a guard advises for a knob."""
        now = advice(guards_of(self._spec), self.snapshot)
        if now and now.knob:
            self._steering.stage(now.knob, now.value)
        else:
            self._steering.problem = "no guard advises a knob's value now"
        self._draw()

    def action_send(self) -> None:
        if self.query_one(KnobPanel).finish_typing():
            for name, value in self._steering.staged.items():
                self._post("set", {"knob": name, "value": value})
            self._steering.staged = {}
        self._draw()

    def _post(self, kind: inbox.Kind, body: dict[str, Any] | None = None) -> None:
        """Put a command into the run's inbox, or say why there is no sense in it."""
        state = self.snapshot.state
        if state.ended:
            self._steering.problem = f"not sent: the run is {state.word} and takes no commands"
            return
        try:
            self._steering.sent.append(inbox.send(self.run.inbox, kind, body, CLIENT))
            self._steering.problem = ""
        except OSError as error:
            self._steering.problem = f"not sent: {error}"

    def action_pause(self) -> None:
        self._post("resume" if self.snapshot.state.word == "paused" else "pause")
        self._draw()

    def action_checkpoint(self) -> None:
        self._post("checkpoint")
        self._draw()

    def action_stop(self) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self._post("stop")
                self._draw()

        text = "It saves a checkpoint and ends; it can be resumed from there."
        self.app.push_screen(ConfirmScreen(f"Stop {self.run.id}?", text, "Stop"), answered)

    # Display

    def _look(self, **changes: Any) -> None:
        self._view = replace(self._view, **changes)
        self._draw()

    def action_log_scale(self) -> None:
        self._look(log=self._view.log is False)

    def action_smooth(self) -> None:
        self._look(smoothing=_next(SMOOTHINGS, self._view.smoothing))

    def action_axis(self) -> None:
        self._look(time=not self._view.time)

    def action_window(self) -> None:
        self._look(window=_next(WINDOWS, self._view.window))

    def action_freeze(self) -> None:
        self._held = None if self._held else self.snapshot
        self._draw()

    def action_knobs(self) -> None:
        self._unfold("-knobs" if self._folded else "")
        self.query_one(KnobPanel).focus()

    def action_samples(self) -> None:
        self._unfold("" if self.has_class("-samples") else "-samples")
        if self.has_class("-samples"):
            self.query_one(SampleTable).focus()
        else:
            self.set_focus(None)

    @property
    def _folded(self) -> bool:
        return self.has_class("-narrow") or self.has_class("-short")

    def _unfold(self, pane: str) -> None:
        """Give one pane the whole screen; none for the usual layout."""
        for name in ("-knobs", "-samples"):
            self.set_class(name == pane, name)
        self.call_after_refresh(self._draw)

    @on(DataTable.RowSelected)
    def _row_selected(self) -> None:
        if self._steering.staged:
            self.action_send()
        elif chosen := self.query_one(SampleTable).chosen:
            cast("WorkbenchApp", self.app).open_samples(self.run, chosen.seq)

    def action_log(self) -> None:
        page = TextPage(str(self.run.log), partial(log_tail, self.run.log), follow=True)
        self.app.push_screen(page)

    def action_escape(self) -> None:
        """One step back: what is staged, an unfolded pane, the focus, the screen."""
        if self._steering.drop():
            self._draw()
        elif self.has_class("-knobs") or self.has_class("-samples"):
            self._unfold("")
            self.set_focus(None)
        elif self.focused is not None:
            self.set_focus(None)
        else:
            self.action_back()

    def action_back(self) -> None:
        self.app.pop_screen()


def _next(choices: tuple[Any, ...], current: Any) -> Any:
    return choices[(choices.index(current) + 1) % len(choices)]
