"""The live monitor of one run: how it goes, and the knobs to turn while it trains."""

from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import DataTable, Static

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.guards import guards_of
from rlhf_engine.job.knobs import knob_values, knobs_of
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.sample import printable
from workbench.commands.text import clip
from workbench.feed import Snapshot
from workbench.format import exact, short
from workbench.keys import bindings
from workbench.screens.commanding import CommandScreen
from workbench.screens.monitor_keys import MONITOR_KEYS
from workbench.widgets.advice import advice
from workbench.widgets.chart import Chart
from workbench.widgets.charts import Charts
from workbench.widgets.head import ending, event_line, phase_line, title_line
from workbench.widgets.health import Health, worries
from workbench.widgets.key_line import KeyLine
from workbench.widgets.knob_panel import KnobPanel, said
from workbench.widgets.numbers import NumbersPage
from workbench.widgets.pictures import PLANS
from workbench.widgets.pipeline_row import PipelineRow
from workbench.widgets.reading import Reading
from workbench.widgets.sample_table import SampleTable
from workbench.widgets.steering import Steering
from workbench.widgets.text_page import TextPage, log_tail

SAMPLED = ("ppo", "dpo", "collect", "evaluate")


class MonitorScreen(CommandScreen):
    """Follows a run from before its first word to after its end."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(MONITOR_KEYS)]
    AUTO_FOCUS = ""
    CSS_PATH = "monitor.tcss"

    def __init__(self, run: RunDir) -> None:
        super().__init__(run)
        self.title = run.id[16:]
        self._problem = ""
        self.steering = Steering({}, {})
        try:
            self.spec = run.spec()
        except SpecError as error:
            self._problem = str(error)
            return
        self._plans = PLANS[self.spec.stage]
        self.steering = Steering(knobs_of(type(self.spec)), knob_values(self.spec))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without a spec that can be read there is nothing to steer or show."""
        return not self._problem or action in ("back", "log")

    def compose(self) -> ComposeResult:
        if self._problem:
            yield Static(Content(printable(self._problem)))
            yield KeyLine()
            return
        yield Static(id="title")
        yield PipelineRow(self.run)
        yield Static(id="phase")
        yield Static(id="ending")
        with Horizontal(id="middle"):
            yield Charts(self._plans, id="charts")
            with Vertical(id="side"):
                yield KnobPanel(self.steering, id="knobs")
                yield Health(self.spec, id="health")
                yield Reading(id="reading")
        yield SampleTable(id="samples")
        yield Static(id="event")
        yield Reading(id="strip", classes="strip")
        yield Static(id="knob-line")
        yield KeyLine()

    def on_mount(self) -> None:
        if not self._problem:
            self.set_class(self.spec.stage not in SAMPLED, "-no-samples")
            self.follow()

    @property
    def charts(self) -> Charts:
        return self.query_one(Charts)

    @property
    def cursor_step(self) -> int | None:
        row = self.charts.cursor
        return row.step if row else None

    @property
    def metrics(self) -> tuple[tuple[str, str], ...]:
        return tuple((plan.main.metric, plan.main.label) for plan in self._plans)

    def draw(self, snapshot: Snapshot) -> None:
        if self._problem:
            return
        width, name = self.size.width, self.run.id[16:]
        self._draw_charts(snapshot)
        stage = self.spec.stage
        title = title_line(name, stage, snapshot, self.frozen, width)
        self._static("title").update(title, layout=False)
        self._static("phase").update(phase_line(snapshot, width), layout=False)
        self._static("event").update(event_line(snapshot, width), layout=False)
        told = ending(snapshot, width, 8 if not self._folded else 5 if self.size.height > 20 else 3)
        self._static("ending").display = bool(told)
        self._static("phase").display = not told
        if told:
            self._static("ending").update(told)
        self.query_one(KnobPanel).show(self.snapshot)
        self.query_one(Health).show(self.charts.book, snapshot)
        self.query_one(SampleTable).show(snapshot.samples)
        self._static("knob-line").update(self._knob_line(), layout=False)

    def _draw_charts(self, snapshot: Snapshot) -> None:
        """Draw what a key that changes the charts changes, and nothing else."""
        self.charts.show(snapshot)
        self._show_reading(snapshot)

    def _static(self, name: str) -> Static:
        return self.query_one(f"#{name}", Static)

    def _show_reading(self, snapshot: Snapshot) -> None:
        row = self.charts.cursor
        if self.has_class("-crosshair") != (row is not None):
            self.set_class(row is not None, "-crosshair")
            self.call_after_refresh(self.redraw)
        if row is not None:
            reading = self.query_one("#strip" if self._folded else "#reading", Reading)
            reading.show(row, snapshot, self.charts.metrics)

    def _knob_line(self) -> Content:
        """The knob panel and the health table in one line, for small terminals."""
        worry = worries(self.spec, self.charts.book, self.shown)[:1]
        statuses = self.steering.status(self.snapshot)
        applied = bool(statuses) and all(status.tone == "applied" for status in statuses)
        if statuses and not applied:
            first = next(status for status in statuses if status.tone != "applied")
            return Content.assemble(" ", said(first))
        name = self.query_one(KnobPanel).target
        sign = "β" if name == "kl_coef" else name
        parts = [f"{sign} {exact(self.steering.value(name, self.snapshot), 4)}"]
        for plan in self._plans:
            curve = plan.main
            if raw := self.charts.book.get(curve.metric).raw:
                target = self.shown.steps[-1].knobs.get(plan.target)
                aim = f" / target {exact(target)}" if target is not None else ""
                parts.append(f"{curve.label} {short(raw[-1])}{aim}")
        if applied and not worry:
            parts[0] = printable(statuses[0].text)
        return Content(f" {clip(' · '.join(parts + worry), self.size.width - 2)}")

    # Knobs

    @on(KnobPanel.Edited)
    def _edited(self) -> None:
        self.redraw()

    def on_descendant_focus(self) -> None:
        self.call_after_refresh(self.redraw)

    def on_descendant_blur(self) -> None:
        self.call_after_refresh(self.redraw)

    def action_scale(self, factor: float) -> None:
        self.steering.scale(self.query_one(KnobPanel).target, factor, self.snapshot)
        self.redraw()

    def action_previous(self) -> None:
        self.steering.stage_previous(self.query_one(KnobPanel).target, self.snapshot)
        self.redraw()

    def action_advice(self) -> None:
        """Stage what a guard advises for a knob."""
        now = advice(guards_of(self.spec), self.snapshot)
        if now and now.knob:
            self.steering.stage(now.knob, now.value)
        else:
            self.steering.problem = now.long if now else "no guard advises anything now"
        self.redraw()

    def action_enter(self) -> None:
        """Send what is staged or typed; with nothing to send, show the charts' numbers."""
        if not (self.steering.staged or self.steering.typed) and not self._on_knobs:
            self.action_table()
        elif self.query_one(KnobPanel).finish_typing():
            staged, self.steering.staged = self.steering.staged, {}
            if staged:
                self.post(*(("set", {"knob": k, "value": v}) for k, v in staged.items()))
        self.redraw()

    @property
    def _on_knobs(self) -> bool:
        return self.query_one(KnobPanel).has_focus

    # Display

    def _look(self) -> None:
        """Draw the charts at once: a person has changed how they are seen."""
        self._draw_charts(self.shown)

    def action_log_scale(self) -> None:
        self.charts.look(log=self.charts.view.log is False)
        self._look()

    def action_smooth(self) -> None:
        self.charts.smooth()
        self._look()

    def action_axis(self) -> None:
        self.charts.look(time=not self.charts.view.time)
        self._look()

    def action_window(self) -> None:
        self.charts.widen()
        self._look()

    def action_turn_over(self) -> None:
        self.charts.turn_over()
        self.redraw()
        self.call_after_refresh(self.redraw)

    def action_cross(self, by: int) -> None:
        self.charts.move(by)
        self._look()

    def action_single(self, by: int) -> None:
        self.charts.move(by, single=True)
        self._look()

    def action_cross_end(self, by: int) -> None:
        self.charts.to_end(by)
        self._look()

    @on(Chart.Pointed)
    def _pointed(self, event: Chart.Pointed) -> None:
        self.charts.point(event.x)
        self._look()

    def action_table(self) -> None:
        snapshot = self.shown
        if not snapshot.steps:
            self.refuse("no numbers yet: no step is done; L shows the log")
            return
        title = f"{self.run.id} · {len(snapshot.steps):,} steps, as of step {snapshot.state.step}"
        page = NumbersPage(title, snapshot.steps, self.charts.metrics, self.cursor_step)
        self.app.push_screen(page)

    def action_knobs(self) -> None:
        self._unfold("-knobs" if self._folded else "")
        self.query_one(KnobPanel).focus()

    def action_samples(self) -> None:
        if self.has_class("-no-samples"):
            ask = "" if self.spec.stage == "reward" else "; 4, then i asks its policy a question"
            self.refuse(f"a run of stage {self.spec.stage} writes no samples{ask}")
            return
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
        self.call_after_refresh(self.redraw)

    @on(DataTable.RowSelected)
    def _row_selected(self) -> None:
        if self.steering.staged:
            self.action_enter()
        elif chosen := self.query_one(SampleTable).chosen:
            self.bench.open_samples(self.run, chosen.seq)

    def action_log(self) -> None:
        page = TextPage(str(self.run.log), partial(log_tail, self.run.log), follow=True)
        self.app.push_screen(page)

    def action_escape(self) -> None:
        """One step back: what is staged, the crosshair, an unfolded pane, the focus, the screen."""
        if self.steering.drop(self.snapshot) or self.charts.drop_cursor():
            self.redraw()
        elif self.has_class("-knobs") or self.has_class("-samples"):
            self._unfold("")
            self.set_focus(None)
        elif self.focused is not None:
            self.set_focus(None)
        else:
            self.action_back()

    def action_back(self) -> None:
        self.app.pop_screen()
