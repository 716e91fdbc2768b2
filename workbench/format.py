"""Numbers, spans of time and small pictures as the screens show them."""

import math
from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
# Beyond it differences overflow.
LARGEST = 1e30


def short(value: float | None, digits: int = 3) -> str:
    """A figure in few cells: `6.12`, `0.0800`, `3e-06`, `12,345`, `NaN`, `inf`, `–` for none."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(power)}"
    if size >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    before_point = 1 if size < 1 else int(math.log10(size)) + 1
    return f"{value:.{max(0, digits - before_point + (size < 0.1 and size > 0))}f}"


def within(value: float | None, cells: int) -> str:
    """`short` with as many of its digits as fit, so that no power of ten is cut off."""
    texts = [short(value, digits) for digits in (3, 2, 1)]
    return next((text for text in texts if len(text) <= cells), texts[-1])


def exact(value: float, digits: int = 6) -> str:
    """A knob's value as a person would type it: with at most so many significant digits."""
    text = f"{value:.{digits - 1}e}" if 0 < abs(value) < 1e-3 else f"{value:.{digits}g}"
    mantissa, _, power = text.partition("e")
    if not power:
        return mantissa
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(power)}"


def span(seconds: float | None) -> str:
    """A span of time: `42 s`, `3m05s`, `2h26m`, `5d03h`; `–` for none."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def bar(done: float, total: float, width: int) -> str:
    """A bar of `width` cells, filled as far as `done` is of `total`."""
    share = min(1.0, max(0.0, done / total)) if total > 0 else 0.0
    filled = int(share * width)
    return "━" * filled + "─" * (width - filled)


def sparkline(values: Sequence[float], width: int) -> str:
    """The last values as bars, `·` where a value is no figure that could be drawn."""
    shown = values[-width:]
    known = [value for value in shown if abs(value) < LARGEST]
    if not known:
        return "·" * len(shown)
    low, high = min(known), max(known)
    return "".join(
        BARS[int((value - low) / (high - low) * (len(BARS) - 1)) if high > low else 2]
        if abs(value) < LARGEST
        else "·"
        for value in shown
    )
