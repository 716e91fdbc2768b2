"""Figures over steps, kept ready for charts: smoothed once per new row, thinned before drawing."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import truediv

from rlhf_engine.runs.reader import StepRow

NAN = float("nan")
LOG_FLOOR = 1e-3
LARGEST = 1e30


@dataclass
class Smoothed:
    """Exponential moving average with bias correction (Kingma and Ba 2015); gaps stay gaps.

    A value that is no finite number gives NaN and leaves the average as it was.
    """

    decay: float
    values: list[float] = field(default_factory=list)
    _sum: float = 0.0
    _weight: float = 0.0

    def extend(self, raw: Sequence[float]) -> list[float]:
        """The average after each of `raw`, of which those seen before are not looked at again."""
        total, weight, decay, rest = self._sum, self._weight, self.decay, 1 - self.decay
        new = raw[len(self.values) :]
        if new and _all_drawable(sum(new), min(new), max(new)):
            totals = accumulate(
                new, lambda so_far, value: decay * so_far + rest * value, initial=total
            )
            weights = accumulate(new, lambda so_far, _: decay * so_far + rest, initial=weight)
            sums, shares = list(totals), list(weights)
            self.values += map(truediv, sums[1:], shares[1:])
            self._sum, self._weight = sums[-1], shares[-1]
            return self.values
        for value in new:
            if drawable(value):
                total = decay * total + rest * value
                weight = decay * weight + rest
                self.values.append(total / weight)
            else:
                self.values.append(NAN)
        self._sum, self._weight = total, weight
        return self.values


class Series:
    """One metric over the steps; steps that lack it are left out."""

    def __init__(self, steps: list[int], times: list[float]) -> None:
        # As long as no step lacks the metric, these lists are those of all series.
        self.steps, self.times = steps, times
        self.raw: list[float] = []
        self.decay = 0.0
        self._whole = True
        self._smoothed: dict[float, Smoothed] = {}
        self._below: tuple[int, list[int]] = (0, [])

    @property
    def smooth(self) -> list[float]:
        """The smoothed values, made when they are asked for."""
        smoothed = self._smoothed.setdefault(self.decay, Smoothed(self.decay))
        return smoothed.extend(self.raw)

    @property
    def below_zero(self) -> list[int]:
        """Where in `raw` the values are negative."""
        seen, found = self._below
        found += [i for i, value in enumerate(self.raw[seen:], seen) if value < 0]
        self._below = (len(self.raw), found)
        return found

    def extend(self, rows: Sequence[StepRow], values: Sequence[float | None]) -> None:
        """Take the values of further steps, None where a step has none."""
        if None not in values:
            self.raw += values  # type: ignore[arg-type]
            if not self._whole:
                self.steps += [row.step for row in rows]
                self.times += [row.time for row in rows]
            return
        if self._whole:
            count = len(self.raw)
            self._whole, self.steps, self.times = False, self.steps[:count], self.times[:count]
        for row, value in zip(rows, values, strict=True):
            if value is not None:
                self.steps.append(row.step)
                self.times.append(row.time)
                self.raw.append(value)


class SeriesBook:
    """Every metric or knob of a run that was asked for, extended by the rows that are new."""

    def __init__(self) -> None:
        self._generation = -1
        self._decay = 0.0
        self._rows: Sequence[StepRow] = ()
        self._steps: list[int] = []
        self._times: list[float] = []
        self._series: dict[str, Series] = {}
        self._read: dict[str, int] = {}

    def update(self, rows: Sequence[StepRow], generation: int, decay: float) -> None:
        """Show `rows`, smoothed by `decay`; they extend the earlier ones unless `generation` is
        another."""
        if generation != self._generation:
            self._generation = generation
            self._series, self._read = {}, {}
            self._steps, self._times = [], []
        self._rows, self._decay = rows, decay
        new = rows[len(self._steps) :]
        # A series that is not asked for must not see steps that it has no values for.
        for name in self._series if new else ():
            self._extend(name)
        self._steps += [row.step for row in new]
        self._times += [row.time for row in new]

    def get(self, name: str) -> Series:
        if name not in self._series:
            self._series[name] = Series(self._steps, self._times)
            self._read[name] = 0
            self._extend(name)
        series = self._series[name]
        series.decay = self._decay
        return series

    def _extend(self, name: str) -> None:
        new = self._rows[self._read[name] :]
        values = [row.metrics.get(name) for row in new]
        if None in values:
            values = [row.metrics.get(name, row.knobs.get(name)) for row in new]
        self._series[name].extend(new, values)
        self._read[name] = len(self._rows)


def drawable(value: float) -> bool:
    """Whether a chart can show the value: finite, and far from where arithmetic overflows."""
    return abs(value) < LARGEST


def log_floor(value: float) -> float:
    """log10 with a floor: what is at most 1e-3, negative values too, stands on the floor."""
    return math.log10(max(value, LOG_FLOOR))


def _all_drawable(total: float, bottom: float, top: float) -> bool:
    """Whether all values are, given their sum and their ends: far faster than a look at each, and
    a single bad one spoils these."""
    return drawable(total) and drawable(bottom) and drawable(top)


def _extent(values: Sequence[float]) -> tuple[float, float] | None:
    """The least and the greatest of the values that can be drawn; None if there are none."""
    if not values:
        return None
    bottom, top = min(values), max(values)
    if _all_drawable(sum(values), bottom, top):
        return bottom, top
    good = [value for value in values if drawable(value)]
    return (min(good), max(good)) if good else None


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
        return list(xs[start:end]), [y if drawable(y) else NAN for y in ys[start:end]]
    width = (high - low) / columns or 1.0
    found_x: list[float] = []
    found_y: list[float] = []
    index = start
    for column in range(columns):
        stop = end if column == columns - 1 else bisect_left(xs, low + (column + 1) * width, index)
        extent = _extent(ys[index:stop])
        centre = low + (column + 0.5) * width
        if extent:
            bottom, top = extent
            # The nearer end first, so that the line does not cross the column twice.
            rising = not found_y or abs(bottom - found_y[-1]) <= abs(top - found_y[-1])
            found_x += [centre, centre]
            found_y += [bottom, top] if rising else [top, bottom]
        elif stop > index:
            found_x.append(centre)
            found_y.append(NAN)
        index = stop
    return found_x, found_y
