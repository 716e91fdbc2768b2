"""Guards at work: which rules have held long enough after a step, and what each of them does."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlhf_engine.job.guards import guards_of, turned
from rlhf_engine.job.knobs import find_knob
from rlhf_engine.job.spec import Spec
from rlhf_engine.job.watch import Guard


@dataclass(frozen=True)
class Firing:
    """A rule that has held long enough: its figures step by step, and what it turns.

    `old` and `new` are the knob's values, None for rules that turn none; `acts` is false where it
    only advises.
    """

    guard: Guard
    steps: tuple[int, ...]
    figures: tuple[float, ...]
    bound: float | None
    acts: bool
    old: float | None = None
    new: float | None = None

    @property
    def condition(self) -> str:
        """What has held, with its figures and steps."""
        steps = [str(step) for step in self.steps]
        span = steps if len(steps) <= 3 else [steps[0], "…", steps[-1]]
        shown = [f"{figure:.4g}" for figure in self.figures[-3:]]
        over = f" = {self.bound:g}" if self.bound is not None and self.guard.times else ""
        figures = ("… " if len(self.figures) > 3 else "") + ", ".join(shown)
        word = "steps" if len(steps) > 1 else "step"
        return f"{self.guard.condition}{over} in {word} {' '.join(span)} ({figures})"

    @property
    def deed(self) -> str:
        """What it does, or would do."""
        if self.old is None or self.new is None:
            last = self.steps[0] - 1
            back = f"go back to the newest checkpoint up to step {last} and pause"
            return "pause" if self.guard.action == "pause" else back
        if self.old == self.new:
            return f"{self.guard.knob} stays {self.old:g}"
        return f"{self.guard.knob} {self.old:g} → {self.new:g} from step {self.steps[-1] + 1}"

    @property
    def text(self) -> str:
        return f"guard: {self.condition}: {'' if self.acts else 'advises: '}{self.deed}"

    @property
    def data(self) -> dict[str, Any]:
        """The firing for programs; its samples are those of the steps that it names."""
        figures = [f if math.isfinite(f) else str(f) for f in self.figures]
        return {
            **{"metric": self.guard.metric, "steps": list(self.steps), "figures": figures},
            **{"mode": "act" if self.acts else "advise", "action": self.guard.action},
            **{"knob": self.guard.knob, "old": self.old, "new": self.new},
        }


@dataclass
class _Watch:
    """How often in a row a rule has held, with the figures, and until which step it rests."""

    steps: list[int] = field(default_factory=list)
    figures: list[float] = field(default_factory=list)
    rests_until: int = 0


class Guards:
    """The rules of a run; their state is part of its checkpoints."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._rules = [guard for guard in guards_of(spec) if guard.mode != "off"]
        self._watches = [_Watch() for _ in self._rules]

    def judge(
        self,
        step: int,
        metrics: Mapping[str, float],
        ran: Mapping[str, float],
        ahead: Mapping[str, float],
        last: bool = False,
    ) -> list[Firing]:
        """The rules that fire after a step, in the order of the spec.

        `ran` are the knobs that the step ran with, `ahead` those that the next one would have.
        After the `last` step nothing is left to turn or to pause.
        """
        found, knobs = [], dict(ahead)
        for guard, watch in zip(self._rules, self._watches, strict=True):
            figure = metrics.get(guard.metric)
            if figure is None or step <= watch.rests_until:
                continue
            if not guard.holds(figure, ran):
                watch.steps, watch.figures = [], []
                continue
            watch.steps.append(step)
            watch.figures.append(figure)
            if len(watch.steps) == guard.steps:
                firing = self._fire(guard, watch, ran, knobs, last)
                found.append(firing)
                if firing.acts and firing.new is not None and guard.knob is not None:
                    knobs[guard.knob] = firing.new
                watch.steps, watch.figures = [], []
                watch.rests_until = step + guard.cooldown
        return found

    def _fire(
        self,
        guard: Guard,
        watch: _Watch,
        ran: Mapping[str, float],
        knobs: Mapping[str, float],
        last: bool,
    ) -> Firing:
        step = watch.steps[-1]
        acts = guard.mode == "act" and step > guard.act_after
        acts = acts and (guard.action == "rollback" or not last)
        about = (guard, tuple(watch.steps), tuple(watch.figures), guard.bound(ran), acts)
        if guard.knob is None:
            return Firing(*about)
        now = knobs[guard.knob]
        return Firing(*about, now, turned(guard, find_knob(type(self._spec), guard.knob), now))

    def state(self) -> list[dict[str, Any]]:
        """What `load` needs to go on from here."""
        return [
            {"rule": _name(guard), **vars(watch)}
            for guard, watch in zip(self._rules, self._watches, strict=True)
        ]

    def load(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Go on from a checkpoint; rules that it does not know start anew."""
        known = {row["rule"]: row for row in state}
        self._watches = [_Watch() for _ in self._rules]
        for guard, watch in zip(self._rules, self._watches, strict=True):
            if row := known.get(_name(guard)):
                watch.steps, watch.figures = list(row["steps"]), list(row["figures"])
                watch.rests_until = row["rests_until"]


def _name(guard: Guard) -> str:
    """A rule as its state remembers it: a fork may change whether it acts."""
    return guard.model_dump_json(exclude={"mode", "act_after"})


def knob_moves(firings: Sequence[Firing]) -> dict[str, float]:
    """The knobs that these firings turn, with their new values."""
    return {
        f.guard.knob: f.new
        for f in firings
        if f.acts and f.guard.knob is not None and f.new is not None and f.new != f.old
    }
