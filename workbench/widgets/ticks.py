"""Where the ticks of an axis stand, and what they say."""

import math

from workbench.format import short, span

# From here on a number is shorter in powers of ten.
PLAIN_BELOW = 1e6
Ticks = tuple[list[float], list[str]]
# Values so close to each other, or to 0, differ by no more than rounding did.
ALIKE, NOTHING = 1e-9, 1e-7


def with_air(low: float, high: float, log: bool = False) -> tuple[float, float]:
    """The ends of an axis a little beyond those of its values; far apart where these are one."""
    if high - low >= max(ALIKE * abs(low), NOTHING):
        air = (high - low) * 0.06
    else:
        air = 0.5 if log or abs(low) < NOTHING else abs(low) * 0.1
    return low - air, high + air


def linear(low: float, high: float, count: int) -> Ticks:
    """At most `count` round values between two ends."""
    step = nice((high - low) / max(1, count - 1))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    values = [index * step for index in range(first, last + 1)]
    plain = places < 6 and max(abs(low), abs(high)) < PLAIN_BELOW
    digits = max(3, math.ceil(math.log10(max(abs(low), abs(high), step) / step)) + 1)
    return values, [f"{value:.{places}f}" if plain else short(value, digits) for value in values]


def decades(low: float, high: float, count: int) -> Ticks:
    """Powers of ten between two logarithms; where few would fit, values between them too."""
    if high - low < 0.8:
        values, labels = linear(10**low, 10**high, count)
        return [math.log10(value) for value in values], labels
    marks = [(float(power), 10.0**power) for power in range(math.floor(low), math.ceil(high) + 1)]
    if high - low < 2:
        marks += [(p + math.log10(n), n * v) for p, v in marks for n in (2, 5)]
    inside = sorted(mark for mark in marks if low - 1e-9 <= mark[0] <= high + 1e-9)
    thinned = inside[:: max(1, math.ceil(len(inside) / max(1, count)))]
    return [place for place, _ in thinned], [f"{value:g}" for _, value in thinned]


def steps(low: float, high: float, count: int) -> Ticks:
    """Round step numbers; every one of them whole."""
    values, _ = linear(low, high, count)
    whole = [value for value in values if value == round(value)]
    return whole, [f"{value:,.0f}" for value in whole]


def times(low: float, high: float, count: int) -> Ticks:
    """Spans of time since the start, in seconds, at round places."""
    unit = 1 if high - low < 120 else 60 if high - low < 7200 else 3600
    values, _ = linear(low / unit, high / unit, count)
    values = [value * unit for value in values]
    return values, [span(value) for value in values]


def with_target(ticks: Ticks, target: tuple[float, str], row: float) -> Ticks:
    """The ticks and one at the target, which takes the place of those within a `row` of it."""
    places, labels = ticks
    kept = [(p, w) for p, w in zip(places, labels, strict=True) if abs(p - target[0]) > 1.2 * row]
    chosen = sorted([*kept, target])
    return [place for place, _ in chosen], [label for _, label in chosen]


def nice(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    if not step > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)
