"""Which values a chart can show, and few of many: the least and the greatest of each column."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

NAN = float("nan")
LOG_FLOOR = 1e-3
LARGEST = 1e30
# Values that share one entry of `Ends`; a column of a long run has some hundred.
BLOCK = 16


def drawable(value: float) -> bool:
    """Whether a chart can show the value: finite, and far from where arithmetic overflows."""
    return abs(value) < LARGEST


def all_drawable(total: float, bottom: float, top: float) -> bool:
    """Whether all values are, given their sum and their ends: far faster than a look at each, and
    a single bad one spoils these."""
    return bottom > -LARGEST and top < LARGEST and drawable(total)


def log_floor(value: float) -> float:
    """log10 with a floor: what is at most 1e-3, negative values too, stands on the floor."""
    return math.log10(max(value, LOG_FLOOR))


@dataclass
class Ends:
    """The least and the greatest of each whole block of a list that only grows.

    `usable` is False once a value was seen that cannot be drawn.
    """

    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    usable: bool = True

    def extend(self, values: Sequence[float]) -> "Ends":
        """The ends of `values`, of whose blocks those seen before are not looked at again."""
        seen, stop = len(self.low) * BLOCK, len(values) // BLOCK * BLOCK
        if self.usable and seen < stop:
            new = values[seen:stop]
            lanes = [new[lane::BLOCK] for lane in range(BLOCK)]
            self.low += map(min, *lanes)
            self.high += map(max, *lanes)
            self.usable = all_drawable(sum(new), min(new), max(new))
        return self

    def of(self, values: Sequence[float], start: int, stop: int) -> tuple[float, float] | None:
        """The least and the greatest of a stretch of the values that can be drawn, or None."""
        first, last = -(-start // BLOCK), min(stop // BLOCK, len(self.low))
        if not self.usable or first >= last:
            return extent(values[start:stop])
        low, high = min(self.low[first:last]), max(self.high[first:last])
        if start == first * BLOCK and stop == last * BLOCK:
            return low, high
        rest = extent([*values[start : first * BLOCK], *values[last * BLOCK : stop]])
        return (min(low, rest[0]), max(high, rest[1])) if rest else (low, high)


def extent(values: Sequence[float]) -> tuple[float, float] | None:
    """The least and the greatest of the values that can be drawn; None if there are none."""
    if not values:
        return None
    bottom, top = min(values), max(values)
    if all_drawable(sum(values), bottom, top):
        return bottom, top
    good = [value for value in values if drawable(value)]
    return (min(good), max(good)) if good else None


class Columns:
    """The columns of one x axis from `low` to `high`; lines over the same steps are cut once."""

    def __init__(self, low: float, high: float, count: int) -> None:
        self.low, self.high, self.count = low, high, count
        self._width = (high - low) / count or 1.0
        self._centres = [low + (column + 0.5) * self._width for column in range(count)]
        # With each list its cuts: an identity alone could be that of another one later.
        self._cut: dict[tuple[int, int], tuple[Sequence[float], list[int]]] = {}

    def thin(
        self, xs: Sequence[float], ys: Sequence[float], ends: Ends | None = None
    ) -> tuple[list[float], list[float]]:
        """At most a minimum and a maximum for each column.

        `xs` must ascend; `ends` are those of `ys`, and where a column has several blocks of them
        it has whole ones, its neighbour the next. What cannot be drawn becomes NaN, which breaks
        the line.
        """
        start, end = bisect_left(xs, self.low), len(xs)
        while end > start and xs[end - 1] > self.high:
            end -= 1
        if end - start <= self.count:
            return list(xs[start:end]), [y if drawable(y) else NAN for y in ys[start:end]]
        block = BLOCK if ends and end - start >= 4 * BLOCK * self.count else 1
        found_x: list[float] = []
        found_y: list[float] = []
        index = start
        for centre, stop in zip(self._centres, self._cuts(xs, start, end, block), strict=True):
            found = ends.of(ys, index, stop) if ends else extent(ys[index:stop])
            if found:
                bottom, top = found
                # The nearer end first, so that the line does not cross the column twice.
                rising = not found_y or abs(bottom - found_y[-1]) <= abs(top - found_y[-1])
                found_x += [centre, centre]
                found_y += [bottom, top] if rising else [top, bottom]
            elif stop > index:
                found_x.append(centre)
                found_y.append(NAN)
            index = stop
        return found_x, found_y

    def _cuts(self, xs: Sequence[float], start: int, end: int, block: int) -> list[int]:
        """Where in `xs` each column stops."""
        known = self._cut.get((id(xs), block))
        if known is None:
            stops, index = [], start
            for column in range(1, self.count):
                stop = bisect_left(xs, self.low + column * self._width, index) // block * block
                index = max(index, stop)
                stops.append(index)
            known = self._cut[id(xs), block] = (xs, [*stops, end])
        return known[1]
