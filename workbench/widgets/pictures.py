"""Which charts a stage has, and how they are made from its steps."""

from dataclasses import dataclass

from textual.content import Content

from rlhf_engine.runs.reader import Session
from workbench.feed import Snapshot
from workbench.format import exact, short
from workbench.widgets.chart import Hue, Line, Marker, Picture
from workbench.widgets.series import Series, SeriesBook

SMOOTHINGS = (0.97, 0.0, 0.9)
WINDOWS = (None, 500, 100)


@dataclass(frozen=True)
class Curve:
    """One metric in a chart; with `raw` its own values stand dim behind the smoothed ones."""

    metric: str
    label: str
    hue: Hue
    raw: Hue | None = None
    dots: bool = False


@dataclass(frozen=True)
class ChartPlan:
    title: str
    curves: tuple[Curve, ...]
    log: bool = False
    target: str = ""
    short_title: str = ""

    @property
    def main(self) -> Curve:
        """The curve that stands for the chart in one figure."""
        return next(curve for curve in self.curves if curve.hue is Hue.MAIN)


@dataclass(frozen=True)
class View:
    """How a person wants to see the charts."""

    log: bool | None = None
    smoothing: float = SMOOTHINGS[0]
    time: bool = False
    window: int | None = None


def _main(metric: str, label: str) -> Curve:
    return Curve(metric, label, Hue.MAIN, Hue.MAIN_RAW)


_SCORE = ChartPlan(
    "score",
    (
        Curve("gold", "gold", Hue.SECOND),
        Curve("net_reward", "net of KL", Hue.MAIN_RAW),
        Curve("score", "score", Hue.MAIN),
    ),
)
_LOSS = ChartPlan(
    "loss",
    (_main("loss", "loss"), Curve("eval_loss", "held out", Hue.SECOND, dots=True)),
    log=True,
)
_ANSWERS = (
    ChartPlan("score", (Curve("gold", "gold", Hue.SECOND), _main("score", "score"))),
    ChartPlan("length · tokens/response", (_main("response_tokens", "tokens"),)),
)
PLANS: dict[str, tuple[ChartPlan, ChartPlan]] = {
    "ppo": (
        ChartPlan(
            "KL to reference · nats/response",
            (_main("kl", "KL"),),
            log=True,
            target="kl_target",
            short_title="KL",
        ),
        _SCORE,
    ),
    "sft": (
        _LOSS,
        ChartPlan(
            "token accuracy",
            (
                _main("token_accuracy", "accuracy"),
                Curve("eval_token_accuracy", "held out", Hue.SECOND, dots=True),
            ),
        ),
    ),
    "reward": (
        _LOSS,
        ChartPlan(
            "accuracy on pairs, and margin",
            (
                Curve("margin", "margin", Hue.MAIN_RAW),
                _main("accuracy", "accuracy"),
                Curve("eval_accuracy", "held out", Hue.SECOND, dots=True),
            ),
        ),
    ),
    "collect": _ANSWERS,
    "evaluate": _ANSWERS,
}
DIM = (Hue.MAIN_RAW, Hue.SECOND_RAW)
NAMES = {Hue.MAIN: "$primary", Hue.MAIN_RAW: "$text-muted", Hue.SECOND: "$accent"}


def picture(plan: ChartPlan, snapshot: Snapshot, book: SeriesBook, view: View) -> Picture:
    """What the chart of a plan shows of a run."""
    rows = snapshot.steps
    if not rows:
        return Picture()
    start = rows[0].time
    first, last = rows[-view.window if view.window and view.window < len(rows) else 0], rows[-1]
    low, high = (first.time - start, last.time - start) if view.time else (first.step, last.step)
    lines: list[Line] = []
    for curve in plan.curves:
        lines += _lines(curve, book.get(curve.metric), view, start)
    target = _knob(snapshot, plan.target) if plan.target else None
    return Picture(
        lines=tuple(sorted(lines, key=lambda line: line.hue not in DIM)),
        low=low,
        high=high if high > low else low + 1,
        target=target,
        markers=tuple(_markers(snapshot, view.time, start)),
        log=is_log(plan, view),
        time=view.time,
    )


def is_log(plan: ChartPlan, view: View) -> bool:
    return plan.log if view.log is None else plan.log and view.log


def _lines(curve: Curve, series: Series, view: View, start: float) -> list[Line]:
    xs = [time - start for time in series.times] if view.time else series.steps
    if curve.dots:
        return [Line(xs, series.raw, curve.hue, dots=True)]
    if not view.smoothing:
        return [Line(xs, series.raw, curve.hue)]
    raw = [Line(xs, series.raw, curve.raw)] if curve.raw else []
    return [*raw, Line(xs, series.smooth, curve.hue)]


def _knob(snapshot: Snapshot, name: str) -> float | None:
    return snapshot.last.knobs.get(name) if snapshot.last else None


def _markers(snapshot: Snapshot, time: bool, start: float) -> list[Marker]:
    """Changes by people (a controller moves its knob each step), resumes, checkpoints."""
    found = [
        Marker(row.time - start if time else row.step, _named(row.name, row.new), Hue.KNOB)
        for row in snapshot.changes
        if row.source in ("command", "schedule")
    ]
    found += [
        Marker(s.started - start if time else s.resumed_from_step, _began(s), Hue.EVENT)
        for s in snapshot.sessions
        if s.resumed_from_step
    ]
    found += [
        Marker(row.time - start if time else row.step, "▲", Hue.EVENT, line=False)
        for row in snapshot.checkpoints
    ]
    return found


def _began(session: Session) -> str:
    return {"rollback": "rolled back", "fork": "forked"}.get(session.began, "resumed")


def _named(name: str, value: float) -> str:
    return f"β{exact(value)}" if name == "kl_coef" else f"{name} {exact(value)}"


def title(plan: ChartPlan, snapshot: Snapshot, view: View, wide: bool) -> Content:
    words = [plan.title if wide or not plan.short_title else plan.short_title]
    words += ["log"] if is_log(plan, view) else []
    words += [f"EMA {view.smoothing:.2f}".replace("0.", ".").rstrip("0")] if view.smoothing else []
    words += [f"last {view.window}"] if view.window else []
    if plan.target and (target := _knob(snapshot, plan.target)):
        words.append(f"target {exact(target)}")
    return Content(" " + " · ".join(words) + " ")


def legend(plan: ChartPlan, book: SeriesBook) -> Content:
    """The newest value of every curve, in its colour; how often KL-like values were negative."""
    parts: list[str | tuple[str, str]] = [" "]
    for curve in reversed(plan.curves):
        if raw := book.get(curve.metric).raw:
            sign = "•" if curve.dots else "━"
            parts.append((f"{sign} {curve.label} {short(raw[-1])}  ", NAMES[curve.hue]))
    if plan.target and (below := sum(value < 0 for value in book.get(plan.curves[0].metric).raw)):
        parts.append(f"{below} steps below 0  ")
    return Content.assemble(*parts)
