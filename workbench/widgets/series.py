"""Figures over steps, kept ready for charts: smoothed once per new row, thinned before drawing."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from rlhf_engine.runs.reader import StepRow

NAN = float("nan")
LOG_FLOOR = 1e-3
LARGEST = 1e30


@dataclass
class Ema:
    """Exponential moving average with bias correction (Kingma and Ba 2015); gaps stay gaps.

    A value that is no finite number gives NaN and leaves the average as it was.
    """

    decay: float
    _sum: float = 0.0
    _weight: float = 0.0

    def next(self, value: float) -> float:
        if not drawable(value):
            return NAN
        self._sum = self.decay * self._sum + (1 - self.decay) * value
        self._weight = self.decay * self._weight + (1 - self.decay)
        return self._sum / self._weight


@dataclass
class Series:
    """One metric over the steps; steps that lack it are left out."""

    decay: float
    steps: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)
    smooth: list[float] = field(default_factory=list)
    _ema: Ema = field(init=False)

    def __post_init__(self) -> None:
        self._ema = Ema(self.decay)

    def add(self, step: float, time: float, value: float) -> None:
        self.steps.append(step)
        self.times.append(time)
        self.raw.append(value)
        self.smooth.append(self._ema.next(value))


class SeriesBook:
    """Every metric or knob of a run that was asked for, extended by the rows that are new."""

    def __init__(self) -> None:
        self._key: tuple[int, float] = (-1, 0.0)
        self._rows: Sequence[StepRow] = ()
        self._series: dict[str, Series] = {}
        self._read: dict[str, int] = {}

    def update(self, rows: Sequence[StepRow], generation: int, decay: float) -> None:
        """Show `rows`; they extend the earlier ones unless `generation` or `decay` is another."""
        if (generation, decay) != self._key:
            self._key = (generation, decay)
            self._series, self._read = {}, {}
        self._rows = rows

    def get(self, name: str) -> Series:
        series = self._series.setdefault(name, Series(self._key[1]))
        for row in self._rows[self._read.get(name, 0) :]:
            if (value := row.metrics.get(name, row.knobs.get(name))) is not None:
                series.add(row.step, row.time, value)
        self._read[name] = len(self._rows)
        return series


def drawable(value: float) -> bool:
    """Whether a chart can show the value: finite, and far from where arithmetic overflows."""
    return abs(value) < LARGEST


def log_floor(value: float) -> float:
    """log10 with a floor: what is at most 1e-3, negative values too, stands on the floor."""
    return math.log10(max(value, LOG_FLOOR))


def thin(
    xs: Sequence[float], ys: Sequence[float], low: float, high: float, columns: int
) -> tuple[list[float], list[float]]:
    """At most a minimum and a maximum for each of `columns` between `low` and `high`.

    `xs` must ascend. What cannot be drawn becomes NaN, which breaks the line.
    """
    start, end = bisect_left(xs, low), len(xs)
    while end > start and xs[end - 1] > high:
        end -= 1
    if end - start <= columns:
        shown = [y if drawable(y) else NAN for y in ys[start:end]]
        return list(xs[start:end]), shown
    width = (high - low) / columns or 1.0
    found_x: list[float] = []
    found_y: list[float] = []
    index = start
    for column in range(columns):
        stop = end if column == columns - 1 else bisect_left(xs, low + (column + 1) * width, index)
        part = [y for y in ys[index:stop] if drawable(y)]
        centre = low + (column + 0.5) * width
        if part:
            bottom, top = min(part), max(part)
            # The nearer end first, so that the line does not cross the column twice.
            rising = not found_y or abs(bottom - found_y[-1]) <= abs(top - found_y[-1])
            found_x += [centre, centre]
            found_y += [bottom, top] if rising else [top, bottom]
        elif stop > index:
            found_x.append(centre)
            found_y.append(NAN)
        index = stop
    return found_x, found_y
