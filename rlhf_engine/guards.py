"""Guards at work: which rules have held long enough after a step, and what each of them does."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlhf_engine.job.guards import guards_of, turned
from rlhf_engine.job.knobs import find_knob
from rlhf_engine.job.spec import Spec
from rlhf_engine.job.watch import Guard

# Figures that a firing shows, the newest.
SHOWN = 5


@dataclass(frozen=True)
class Firing:
    """A rule that has held long enough: its figures step by step, and what it turns.

    `rule` is its place in the spec. `old` and `new` are the knob's values, None for rules that turn
    none; `acts` is false where it only advises, `late` says that no step is left for it.
    """

    run: str
    rule: int
    guard: Guard
    steps: tuple[int, ...]
    figures: tuple[float, ...]
    bound: float | None
    acts: bool
    late: bool
    old: float | None = None
    new: float | None = None

    @property
    def condition(self) -> str:
        """What has held, with its figures and steps."""
        first, last = self.steps[0], self.steps[-1]
        span = f"steps {first} to {last}" if last > first else f"step {last}"
        over = f" = {self.bound:g}" if self.bound is not None and self.guard.times else ""
        left_out = "…, " if len(self.steps) > SHOWN else ""
        figures = left_out + ", ".join(f"{figure:.4g}" for figure in self.figures[-SHOWN:])
        return f"{self.guard.condition}{over} in {span} ({figures})"

    @property
    def text(self) -> str:
        """What has held and what is done about it, or how a person would do it."""
        match self.guard.action:
            case "pause":
                deed, command = "pause", f"workbench pause {self.run}"
            case "rollback":
                deed = f"roll back to before step {self.steps[0]} and pause"
                command = f"workbench rollback {self.run} STEP"
            case _ if self.old == self.new:
                return f"guard: {self.condition}: {self.guard.knob} stays {self.new:g}"
            case _:
                deed = f"{self.guard.knob} {self.old:g} → {self.new:g}"
                command = f"workbench set {self.run} {self.guard.knob} {self.new:g}"
        said = deed if self.acts else f"advises: {deed} ({command})"
        said = f"too late for {deed}" if self.late else said
        return f"guard: {self.condition}: {said}"

    @property
    def data(self) -> dict[str, Any]:
        """The firing for programs; its samples are those of the steps that it names."""
        figures = [f if math.isfinite(f) else str(f) for f in self.figures]
        return {
            "rule": self.rule,
            "metric": self.guard.metric,
            "steps": list(self.steps),
            "figures": figures,
            "mode": "act" if self.acts else "advise",
            "action": self.guard.action,
            "knob": self.guard.knob,
            "old": self.old,
            "new": self.new,
        }


@dataclass
class _Watch:
    """How often in a row a rule has held, with the figures, and until which step it rests."""

    steps: list[int] = field(default_factory=list)
    figures: list[float] = field(default_factory=list)
    rests_until: int = 0


class Guards:
    """The rules of a run; their state is part of its checkpoints."""

    def __init__(self, spec: Spec, run: str) -> None:
        self._spec = spec
        self._run = run
        self._rules = guards_of(spec)
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
        for rule, guard in enumerate(self._rules):
            watch, figure = self._watches[rule], metrics.get(guard.metric)
            if guard.mode == "off" or figure is None or step <= watch.rests_until:
                continue
            if not guard.holds(figure, ran):
                watch.steps, watch.figures = [], []
                continue
            watch.steps.append(step)
            watch.figures.append(figure)
            if len(watch.steps) == guard.steps:
                firing = self._fire(rule, ran, knobs, last)
                found.append(firing)
                if firing.acts and firing.new is not None and guard.knob is not None:
                    knobs[guard.knob] = firing.new
                watch.steps, watch.figures = [], []
                watch.rests_until = step + guard.cooldown
        return found

    def _fire(
        self, rule: int, ran: Mapping[str, float], knobs: Mapping[str, float], last: bool
    ) -> Firing:
        guard, watch = self._rules[rule], self._watches[rule]
        step = watch.steps[-1]
        late = last and guard.action != "rollback"
        acts = guard.mode == "act" and step > guard.act_after and not late
        old = new = None
        if guard.knob is not None:
            old = knobs[guard.knob]
            new = turned(guard, find_knob(type(self._spec), guard.knob), old)
        steps, figures = tuple(watch.steps), tuple(watch.figures)
        bound = guard.bound(ran)
        return Firing(self._run, rule, guard, steps, figures, bound, acts, late, old, new)

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
