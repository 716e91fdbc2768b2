"""Which charts a stage has, and how they are made from its steps."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from textual.content import Content

from rlhf_engine.runs.reader import MeasuredRow, Session, StepRow
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
        return next(c for c in self.curves if c.hue is Hue.MAIN and not c.dots)


@dataclass(frozen=True)
class View:
    """How a person wants to see the charts."""

    log: bool | None = None
    smoothing: float = SMOOTHINGS[0]
    time: bool = False
    window: int | None = None
    cursor: int | None = None


def _main(metric: str, label: str) -> Curve:
    return Curve(metric, label, Hue.MAIN, Hue.MAIN_RAW)


_SCORE = ChartPlan(
    "score",
    (
        Curve("net_reward", "net of KL", Hue.THIRD, Hue.THIRD_RAW),
        Curve("gold", "gold", Hue.SECOND, Hue.SECOND_RAW),
        _main("score", "score"),
        Curve("eval_score", "held out", Hue.MAIN, dots=True),
    ),
)
_LOSS = ChartPlan(
    "loss",
    (_main("loss", "loss"), Curve("eval_loss", "held out", Hue.SECOND, dots=True)),
    log=True,
)
_ANSWERS = (
    ChartPlan(
        "score", (Curve("gold", "gold", Hue.SECOND, Hue.SECOND_RAW), _main("score", "score"))
    ),
    ChartPlan("length · tokens/response", (_main("response_tokens", "tokens"),)),
    ChartPlan("KL to ref · nats/response, k1", (_main("kl", "KL"),), log=True, short_title="KL"),
)
_ACCURACY = ChartPlan(
    "accuracy on pairs",
    (
        _main("accuracy", "accuracy"),
        Curve("eval_accuracy", "held out", Hue.SECOND, dots=True),
    ),
)
PLANS: dict[str, tuple[ChartPlan, ...]] = {
    "ppo": (
        ChartPlan(
            "KL to ref · nats/response, k1 k3",
            (Curve("kl_k3", "k3", Hue.THIRD), _main("kl", "KL")),
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
        _ACCURACY,
        ChartPlan(
            "margin · score of chosen - rejected",
            (_main("margin", "margin"), Curve("eval_margin", "held out", Hue.SECOND, dots=True)),
            short_title="margin",
        ),
    ),
    "dpo": (
        _LOSS,
        ChartPlan(
            "implicit reward · chosen, rejected, margin",
            (
                Curve("rejected_reward", "rejected", Hue.THIRD),
                Curve("chosen_reward", "chosen", Hue.SECOND),
                _main("margin", "margin"),
            ),
            short_title="implicit reward",
        ),
        _ACCURACY,
    ),
    "collect": _ANSWERS,
    "evaluate": _ANSWERS,
}
DIM = (Hue.MAIN_RAW, Hue.SECOND_RAW, Hue.THIRD_RAW)
NAMES = {Hue.MAIN: "$primary", Hue.SECOND: "$accent", Hue.THIRD: "$success"}


def visible(rows: Sequence[StepRow], view: View) -> Sequence[StepRow]:
    """The steps that a view's window shows."""
    return rows[-view.window :] if view.window else rows


def place(row: StepRow | MeasuredRow, view: View, start: float) -> float:
    """Where a step stands on the x axis."""
    return row.time - start if view.time else row.step


def picture(plan: ChartPlan, snapshot: Snapshot, book: SeriesBook, view: View) -> Picture:
    """What the chart of a plan shows of a run."""
    rows = visible(snapshot.steps, view)
    if not rows:
        return Picture()
    start = snapshot.steps[0].time
    low, high = place(rows[0], view, start), place(rows[-1], view, start)
    lines: list[Line] = []
    for curve in plan.curves:
        series = book.get(curve.metric)
        if curve.dots:
            lines.append(_dots(curve, series, snapshot, view, start))
        else:
            lines += _lines(curve, series, view, start)
    log = is_log(plan, view)
    main = book.get(plan.main.metric)
    return Picture(
        lines=tuple(sorted(lines, key=lambda line: line.hue not in DIM)),
        low=low,
        high=high if high > low else low + 1,
        target=_knob(snapshot, plan.target) if plan.target else None,
        markers=tuple(markers(snapshot, view.time, start)),
        log=log,
        time=view.time,
        below=_below_zero(main, view, start) if log else (),
        cursor=_crosshair(rows, view, start),
    )


def _crosshair(rows: Sequence[StepRow], view: View, start: float) -> Marker | None:
    row = row_at(rows, view.cursor) if view.cursor is not None else None
    return Marker(place(row, view, start), f"step {row.step}", Hue.CURSOR) if row else None


def row_at(rows: Sequence[StepRow], step: int) -> StepRow | None:
    """The row of a step, or the one nearest to it."""
    index = bisect_left(rows, step, key=lambda row: row.step)
    near = rows[max(0, index - 1) : index + 1]
    return min(near, key=lambda row: abs(row.step - step)) if near else None


def is_log(plan: ChartPlan, view: View) -> bool:
    return plan.log if view.log is None else plan.log and view.log


def _xs(series: Series, view: View, start: float) -> Sequence[float]:
    return [time - start for time in series.times] if view.time else series.steps


def _lines(curve: Curve, series: Series, view: View, start: float) -> list[Line]:
    xs = _xs(series, view, start)
    if not view.smoothing:
        return [Line(xs, series.raw, curve.hue, ends=series.ends)]
    raw = [Line(xs, series.raw, curve.raw, ends=series.ends)] if curve.raw else []
    smooth = series.smooth
    return [*raw, Line(xs, smooth.values, curve.hue, ends=smooth.ends)]


def _dots(curve: Curve, series: Series, snapshot: Snapshot, view: View, start: float) -> Line:
    """What the run measured by itself, and between its steps for a person."""
    xs, ys = _xs(series, view, start), series.raw
    if asked := _asked(curve, snapshot):
        own = [*zip(xs, ys, strict=True)]
        theirs = [(place(row, view, start), row.metrics[curve.metric]) for row in asked]
        points = sorted([*own, *theirs], key=itemgetter(0))
        xs, ys = [x for x, _ in points], [y for _, y in points]
    return Line(xs, ys, curve.hue, dots=True)


def _asked(curve: Curve, snapshot: Snapshot) -> list[MeasuredRow]:
    return [row for row in snapshot.measured if curve.dots and curve.metric in row.metrics]


def _below_zero(series: Series, view: View, start: float) -> list[float]:
    xs = _xs(series, view, start)
    return [xs[index] for index in series.below_zero]


def _knob(snapshot: Snapshot, name: str) -> float | None:
    return snapshot.last.knobs.get(name) if snapshot.last else None


def markers(snapshot: Snapshot, time: bool, start: float) -> list[Marker]:
    """Changes of knobs that somebody or a guard made (a controller moves its knob each step),
    what guards found, resumes and rollbacks, checkpoints."""
    found = [
        Marker(s.started - start if time else s.resumed_from_step, _began(s), Hue.EVENT, "dotted")
        for s in snapshot.sessions
        if s.resumed_from_step
    ]
    found += [
        Marker(row.time - start if time else row.step, "guard", Hue.GUARD)
        for row in snapshot.events
        if row.kind == "guard" and not snapshot.is_history(row)
    ]
    found += [
        Marker(
            row.time - start if time else row.step,
            f"{'guard ' if row.source == 'guard' else ''}{_named(row.name, row.new)}",
            Hue.GUARD if row.source == "guard" else Hue.KNOB,
        )
        for row in snapshot.changes
        if row.source in ("command", "schedule", "guard")
    ]
    found += [
        Marker(row.time - start if time else row.step, "▲", Hue.EVENT, "sign")
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


def legend(plan: ChartPlan, snapshot: Snapshot, book: SeriesBook, at: StepRow | None) -> Content:
    """The newest value of every curve in its colour, or the one under the crosshair; how often
    KL-like values were negative."""
    parts: list[str | tuple[str, str]] = [" "]
    for curve in reversed(plan.curves):
        found, value = _value(curve, snapshot, book, at)
        if found:
            sign = "•" if curve.dots else "━"
            parts.append((f"{sign} {curve.label} {short(value)}  ", NAMES[curve.hue]))
    if plan.log and (below := len(book.get(plan.main.metric).below_zero)):
        parts.append(f"▾ {below} step{'' if below == 1 else 's'} below 0  ")
    return Content.assemble(*parts) if len(parts) > 1 else Content("")


def _value(
    curve: Curve, snapshot: Snapshot, book: SeriesBook, at: StepRow | None
) -> tuple[bool, float | None]:
    """Whether a curve has values, and its newest one, or that of a step."""
    series, asked = book.get(curve.metric), _asked(curve, snapshot)
    if at:
        here = [row.metrics[curve.metric] for row in asked if row.step == at.step]
        value = at.metrics.get(curve.metric, here[-1] if here else None)
        return bool(series.raw or asked), value
    if asked and not (series.raw and series.steps[-1] > asked[-1].step):
        return True, asked[-1].metrics[curve.metric]
    return bool(series.raw), series.raw[-1] if series.raw else None
