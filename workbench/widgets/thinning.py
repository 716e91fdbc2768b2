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


def thin(
    xs: Sequence[float],
    ys: Sequence[float],
    low: float,
    high: float,
    columns: int,
    ends: Ends | None = None,
) -> tuple[list[float], list[float]]:
    """At most a minimum and a maximum for each of `columns` between `low` and `high`.

    `xs` must ascend; `ends` are those of `ys`, and where a column has several blocks of them it
    has whole ones, its neighbour the next. What cannot be drawn becomes NaN, which breaks the line.
    """
    start, end = bisect_left(xs, low), len(xs)
    while end > start and xs[end - 1] > high:
        end -= 1
    if end - start <= columns:
        return list(xs[start:end]), [y if drawable(y) else NAN for y in ys[start:end]]
    width = (high - low) / columns or 1.0
    block = BLOCK if ends and end - start >= 4 * BLOCK * columns else 1
    found_x: list[float] = []
    found_y: list[float] = []
    index = start
    for column in range(columns):
        stop = bisect_left(xs, low + (column + 1) * width, index) // block * block
        stop = end if column == columns - 1 else max(index, stop)
        found = ends.of(ys, index, stop) if ends else extent(ys[index:stop])
        centre = low + (column + 0.5) * width
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
