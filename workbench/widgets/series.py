"""Figures over steps, kept ready for charts: smoothed once per new row, thinned before drawing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, repeat
from operator import truediv

from rlhf_engine.runs.reader import StepRow
from workbench.widgets.thinning import NAN, Ends, all_drawable, drawable

# Steps after which the bias correction is less than a rounding error, at decays up to .98.
SETTLED = 2000


@dataclass
class Smoothed:
    """Exponential moving average with bias correction (Kingma and Ba 2015); gaps stay gaps.

    A value that is no finite number gives NaN and leaves the average as it was.
    """

    decay: float
    values: list[float] = field(default_factory=list)
    ends: Ends = field(default_factory=Ends)
    _sum: float = 0.0
    _weight: float = 0.0

    def extend(self, raw: Sequence[float]) -> None:
        """Go on to the average after each of `raw`; those seen before are not looked at again."""
        total, weight, decay, rest = self._sum, self._weight, self.decay, 1 - self.decay
        new = raw[len(self.values) :]
        if new and all_drawable(sum(new), min(new), max(new)):
            totals = accumulate(
                new, lambda so_far, value: decay * so_far + rest * value, initial=total
            )
            growing = range(min(len(new), SETTLED))
            weights = accumulate(growing, lambda so_far, _: decay * so_far + rest, initial=weight)
            sums, shares = list(totals), list(weights)
            self.values += map(truediv, sums[1:], chain(shares[1:], repeat(shares[-1])))
            self._sum, self._weight = sums[-1], shares[-1]
            self.ends.extend(self.values)
            return
        for value in new:
            if drawable(value):
                total = decay * total + rest * value
                weight = decay * weight + rest
                self.values.append(total / weight)
            else:
                self.values.append(NAN)
        self._sum, self._weight = total, weight
        self.ends.extend(self.values)


class Series:
    """One metric over the steps; steps that lack it are left out."""

    def __init__(self, steps: list[int], times: list[float]) -> None:
        # As long as no step lacks the metric, these lists are those of all series.
        self.steps, self.times = steps, times
        self.raw: list[float] = []
        self._ends = Ends()
        self.decay = 0.0
        self._whole = True
        self._smoothed: dict[float, Smoothed] = {}
        self._below: tuple[int, list[int]] = (0, [])

    @property
    def ends(self) -> Ends:
        """Of `raw`."""
        return self._ends.extend(self.raw)

    @property
    def smooth(self) -> Smoothed:
        """The smoothed values, made when they are asked for."""
        smoothed = self._smoothed.setdefault(self.decay, Smoothed(self.decay))
        smoothed.extend(self.raw)
        return smoothed

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
