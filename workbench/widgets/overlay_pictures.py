"""What the compare screen's charts show: a metric of several runs, and score against KL."""

import math
from collections.abc import Sequence
from dataclasses import replace

from textual.content import Content

from workbench.board import LETTERS, Axis, Board, slot_colour
from workbench.commands.follow import KEY_METRICS
from workbench.commands.text import clip
from workbench.format import short
from workbench.lanes import Lane
from workbench.widgets.overlay import (
    OverlayPicture,
    Trace,
    can_be_log,
    shared_ends,
)
from workbench.widgets.thinning import drawable

# Read over several powers of ten.
LOG_METRICS = frozenset({"kl", "kl_k3", "eval_kl", "loss", "eval_loss"})
AXES: tuple[Axis, ...] = ("step", "time", "KL")


def metric_names(lanes: Sequence[Lane]) -> list[str]:
    """Every metric and knob of the runs: those that tell how it goes first, then by how many runs
    have it."""
    count: dict[str, int] = {}
    for lane in lanes:
        for name in lane.names:
            count[name] = count.get(name, 0) + 1
    known = {name: place for place, name in enumerate(KEY_METRICS)}
    return sorted(count, key=lambda n: (n not in known, -count[n], known.get(n, 0), n))


def chosen_metric(board: Board, lanes: Sequence[Lane]) -> str:
    """The metric that is chosen, or the one that tells most of these runs."""
    if board.metric:
        return board.metric
    return next(iter(metric_names(lanes)), "")


def metric_picture(lanes: Sequence[Lane], board: Board) -> OverlayPicture:
    """The chosen metric of each run over the board's axis."""
    metric = chosen_metric(board, lanes)
    traces = [Trace(lane.slot, *_points(lane, metric, board.axis)) for lane in lanes]
    traces = [trace for trace in traces if trace.xs]
    wanted = metric in LOG_METRICS if board.log is None else board.log
    missing = f"no {metric or 'figures'} yet"
    if board.axis == "KL" and not traces and metric:
        missing = f"no run here has both {metric} and kl; x chooses another axis"
    low, high = _ends([trace.xs for trace in traces], ascending=board.axis != "KL")
    return OverlayPicture(
        tuple(traces), low, high, board.axis, wanted and can_be_log(traces), missing=missing
    )


def single_pictures(picture: OverlayPicture, slots: Sequence[int]) -> list[OverlayPicture]:
    """The same picture once for each slot, all with the same axes."""
    ends = shared_ends(picture)
    missing = "not measured in this run" if picture.traces else picture.missing
    return [
        replace(
            picture,
            traces=tuple(trace for trace in picture.traces if trace.slot == slot),
            ends=ends,
            missing=missing,
        )
        for slot in slots
    ]


def frontier_picture(lanes: Sequence[Lane]) -> OverlayPicture:
    """Score and gold against the square root of KL: what the drift has bought (Gao et al. 2022)."""
    traces = []
    for metric, points in (("score", False), ("gold", True)):
        for lane in lanes:
            kls, values = _points(lane, metric, "KL")
            pairs = [(math.sqrt(max(k, 0.0)), v) for k, v in zip(kls, values, strict=True)]
            if pairs:
                xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
                traces.append(Trace(lane.slot, xs, ys, points))
    low, high = _ends([trace.xs for trace in traces])
    missing = "no run here has both score and kl"
    return OverlayPicture(tuple(traces), min(0.0, low), high, "KL", missing=missing)


def _points(lane: Lane, metric: str, axis: Axis) -> tuple[Sequence[float], Sequence[float]]:
    series = lane.book.get(metric)
    values = series.raw if is_knob(lane, metric) else series.smooth.values
    if axis == "step":
        return series.steps, values
    if axis == "time":
        start = lane.snapshot.steps[0].time if lane.snapshot.steps else 0.0
        return [time - start for time in series.times], values
    kl = lane.book.get("kl")
    at = {step: k for step, k in zip(kl.steps, kl.smooth.values, strict=True) if drawable(k)}
    both = [(at[s], y) for s, y in zip(series.steps, values, strict=True) if s in at]
    return [x for x, _ in both], [y for _, y in both]


def is_knob(lane: Lane, metric: str) -> bool:
    """Whether a person set these values: smoothing would say that they crept there."""
    last = lane.snapshot.last
    return last is not None and metric in last.knobs and metric not in last.metrics


def _ends(lines: Sequence[Sequence[float]], ascending: bool = False) -> tuple[float, float]:
    if ascending:
        lines = [(xs[0], xs[-1]) for xs in lines]
    values = [x for xs in lines for x in xs if drawable(x)]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    return low, high if high > low else low + 1.0


def title(board: Board, picture: OverlayPicture, lanes: Sequence[Lane]) -> Content:
    """What the metric's chart shows and how."""
    metric = chosen_metric(board, lanes)
    words = [metric or "no metric", f"over {board.axis}"]
    if picture.log:
        words.append("log")
    elif board.log:
        words.append("linear: too much of it is not above 0")
    smooth = [] if any(is_knob(lane, metric) for lane in lanes) else smoothed(board)
    return Content(" · ".join(words + smooth))


def smoothed(board: Board) -> list[str]:
    return [f"EMA {board.smoothing:.2f}".replace("0.", ".").rstrip("0")] if board.smoothing else []


def legend(lanes: Sequence[Lane], metric: str, dark: bool, head: str = "") -> Content:
    """Each run's letter in its colour, and the newest value."""
    parts: list[str | tuple[str, str]] = [head]
    for lane in lanes:
        raw = lane.book.get(metric).raw
        colour = slot_colour(lane.slot, dark)
        parts += [(f"{LETTERS[lane.slot]} ", colour), f"{short(raw[-1]) if raw else '–'}  "]
    return Content.assemble(*parts).rstrip()


def single_title(lane: Lane, dark: bool) -> Content:
    """A run's letter and name over its own chart."""
    return Content.assemble(
        (LETTERS[lane.slot], f"bold {slot_colour(lane.slot, dark)}"), f" {clip(lane.name, 30)}"
    )
