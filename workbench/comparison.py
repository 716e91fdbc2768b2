"""Runs side by side: the fields of their specs that differ, and how each of them went."""

import json
import math
import statistics
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_engine.job.knobs import knobs_of
from rlhf_engine.job.section import Section, sections_in
from rlhf_engine.job.spec import Spec
from rlhf_engine.runs.reader import StepRow
from workbench.commands.text import number
from workbench.format import exact

# What a final table shows, in the order in which a person reads it.
FIGURES = (
    *("score", "gold", "loss", "eval_loss", "accuracy", "eval_accuracy"),
    *("token_accuracy", "margin", "kl", "response_tokens"),
)
SMALLER_IS_BETTER = frozenset({"loss", "eval_loss"})
# More of these is neither better nor worse.
WITHOUT_BEST = frozenset({"kl", "response_tokens"})
PACE_STEPS = 50
# A run's name and its place in a launch differ between any two runs.
OWN = "name"


@dataclass(frozen=True)
class Figure:
    """A metric's newest value, and the best one with its step."""

    last: float
    best: float | None = None
    best_step: int | None = None


class Tally:
    """The figures of one run, extended by the steps that are new."""

    def __init__(self) -> None:
        self._generation = -1
        self._read = 0
        self.figures: dict[str, Figure] = {}
        self._seconds: deque[float] = deque(maxlen=PACE_STEPS)

    @property
    def seconds(self) -> float | None:
        """Seconds a step: the median of the newest ones."""
        return statistics.median(self._seconds) if self._seconds else None

    def update(self, steps: Sequence[StepRow], generation: int = 0) -> None:
        """Take in `steps`; they extend the earlier ones unless `generation` is another."""
        if generation != self._generation:
            self._generation, self._read = generation, 0
            self.figures = {}
            self._seconds.clear()
        for row in steps[self._read :]:
            for name in FIGURES:
                if (value := row.metrics.get(name)) is not None:
                    self.figures[name] = _next(name, self.figures.get(name), value, row.step)
            if math.isfinite(seconds := row.metrics.get("seconds", math.nan)):
                self._seconds.append(seconds)
        self._read = len(steps)


def _next(name: str, before: Figure | None, value: float, step: int) -> Figure:
    best, best_step = (before.best, before.best_step) if before else (None, None)
    if name not in WITHOUT_BEST and math.isfinite(value):
        better = best is None or (value < best if name in SMALLER_IS_BETTER else value > best)
        best, best_step = (value, step) if better else (best, best_step)
    return Figure(value, best, best_step)


@dataclass(frozen=True)
class Setting:
    """A field of one run: what its spec says, and for a knob what it is now if that differs."""

    value: Any
    now: float | None = None

    def __str__(self) -> str:
        said = _text(self.value)
        return said if self.now is None else f"{said} → {exact(self.now)}"


def settings(spec: Spec, knobs: Mapping[str, float] | None = None) -> dict[str, Setting]:
    """Every field of a spec by its dotted name; `knobs` are the values of the run's last step."""
    turned: dict[str, float] = {}
    for name, knob in knobs_of(type(spec)).items():
        if knobs and name in knobs:
            turned[knob.dotted] = knobs[name]
    found = {}
    for name, value in _fields(spec, ""):
        now = turned.get(name)
        found[name] = Setting(value, now if now is not None and now != value else None)
    return found


def _fields(section: Section, path: str) -> Iterator[tuple[str, Any]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        inner = next(sections_in(field.annotation), None)
        if isinstance(value, Section):
            yield from _fields(value, f"{path}{name}.")
        elif value is None and inner is not None:
            yield from ((f"{path}{name}.{part}", None) for part in inner.model_fields)
        elif isinstance(value, list):
            plain = [item.model_dump() if isinstance(item, Section) else item for item in value]
            yield f"{path}{name}", plain
        else:
            yield f"{path}{name}", value


def differing(runs: Sequence[Mapping[str, Setting]]) -> list[str]:
    """Names of the fields that at least two runs have and that are not the same in all of those.

    In the order of the specs. What only one stage has says nothing about its difference.
    """
    names = dict.fromkeys(name for run in runs for name in run)
    found = []
    for name in names:
        values = [run[name] for run in runs if name in run]
        if name != OWN and any(value != values[0] for value in values[1:]):
            found.append(name)
    return found


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return exact(value)
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value, ensure_ascii=False)


def figure_names(tallies: Sequence[Tally]) -> list[str]:
    """The figures that any of these runs has."""
    return [name for name in FIGURES if any(name in tally.figures for tally in tallies)]


def best_text(figure: Figure | None) -> str:
    """The best value with its step: `2.31 @412`."""
    if figure is None or figure.best is None:
        return "–"
    return f"{number(figure.best)} @{figure.best_step}"
