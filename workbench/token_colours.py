"""Figures of tokens as colours and signs: blue below zero, red above it, grey between."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.style import Style

from rlhf_engine.runs.sample import Sample

STEPS = 17
MIDDLE = STEPS // 2
# What counts as extreme: the top third of the scale.
EXTREME = 2 / 3
BLUE, GREY, RED = (33, 102, 172), (118, 122, 128), (202, 60, 48)
MODES = ("none", "log-ratio", "advantage", "value", "reward")


@dataclass(frozen=True)
class Figure:
    """One figure of every token, and the size that counts as full colour."""

    mode: str
    values: Sequence[float]
    scale: float

    def share(self, index: int) -> float:
        """Where a token stands between -1 and 1; NaN if it has no finite figure."""
        value = self.values[index] if index < len(self.values) else math.nan
        if not math.isfinite(value):
            return math.nan
        return max(-1.0, min(1.0, value / self.scale))

    def extreme(self, index: int) -> bool:
        return abs(self.share(index)) >= EXTREME

    def style(self, index: int) -> Style:
        """Background with a contrasting text; extremes are underlined, bold above zero and italic
        below it, so that they can be told without colour."""
        share = self.share(index)
        if math.isnan(share):
            return Style()
        step = MIDDLE + round(share * MIDDLE)
        loud = abs(share) >= EXTREME
        signs = Style(underline=loud or None, bold=(loud and share > 0) or None)
        signs += Style(italic=(loud and share < 0) or None)
        return signs if step == MIDDLE else signs + PALETTE[step]


def _palette() -> tuple[Style, ...]:
    found = []
    for step in range(STEPS):
        end, share = (RED, step / MIDDLE - 1) if step > MIDDLE else (BLUE, 1 - step / MIDDLE)
        colour = tuple(round(g + (e - g) * share) for g, e in zip(GREY, end, strict=True))
        red, green, blue = (value / 255 for value in colour)
        light = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
        text = "#000000" if light > 0.18 else "#ffffff"
        found.append(Style(color=text, bgcolor="#{:02x}{:02x}{:02x}".format(*colour)))
    return tuple(found)


PALETTE = _palette()


def token_values(sample: Sample, rewards: Sequence[float], mode: str) -> list[float]:
    """A figure of every token of a sample; empty where it was not recorded."""
    match mode:
        case "log-ratio":
            return log_ratios(sample)
        case "advantage":
            return list(sample.advantage)
        case "value":
            return list(sample.value)
        case "reward":
            return list(rewards)
    return []


def log_ratios(sample: Sample) -> list[float]:
    """log pi - log pi_ref of each token."""
    if len(sample.logp) != len(sample.ref_logp):
        return []
    return [own - ref for own, ref in zip(sample.logp, sample.ref_logp, strict=True)]


def modes_of(sample: Sample, rewards: Sequence[float]) -> list[str]:
    """The figures that this sample's tokens have; `none` is always there."""
    return ["none", *(mode for mode in MODES[1:] if token_values(sample, rewards, mode))]


def scale_of(values: Iterable[float]) -> float:
    """The 98th percentile of sizes: what counts as full colour."""
    sizes = sorted(abs(value) for value in values if math.isfinite(value))
    if not sizes:
        return 1.0
    return sizes[min(len(sizes) - 1, int(0.98 * len(sizes)))] or sizes[-1] or 1.0
