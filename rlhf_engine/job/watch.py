"""What is watched of a run: rules that do something, and limits that give a figure its word."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from rlhf_engine.job.section import Section, fixed

Word = Literal["ok", "watch", "bad", ""]


class Guard(Section):
    """A rule on a figure, and what happens once it has held for some steps."""

    metric: str
    """Figure that is watched, such as `kl`; steps that do not report it are passed over."""
    above: float | None = None
    """The rule holds while the figure is above this."""
    below: float | None = None
    """The rule holds while the figure is below this."""
    not_finite: bool = False
    """The rule holds while the figure is no finite number (NaN or infinity)."""
    times: str | None = None
    """Knob that `above` or `below` is a multiple of, such as `kl_target`."""
    steps: int = fixed(3, ge=1, le=1000, unit="steps")
    """It fires when it has held so many times in a row."""
    mode: Literal["off", "advise", "act"] = "advise"
    """`advise` says what it would do, `act` does it, `off` does not watch."""
    action: Literal["scale", "set", "pause", "rollback"]
    """`scale` multiplies a knob by `factor`, `set` gives it `value`; `rollback` goes back to the
    newest checkpoint before these steps and pauses, since the same steps would come again."""
    knob: str | None = None
    """Knob that `scale` and `set` turn; a person's own change at the same step comes after it."""
    factor: float | None = fixed(None, gt=0, le=1000)
    """What `scale` multiplies the knob by, within the knob's bounds."""
    value: float | None = None
    """What `set` gives the knob."""
    cooldown: int = fixed(10, ge=0, le=100000, unit="steps")
    """Steps after it fired in which it does not watch."""
    act_after: int = fixed(0, ge=0, unit="steps")
    """In mode `act`, only advise up to this step; `workbench replay` sets it, since it brings
    the changes of a run along."""

    @model_validator(mode="after")
    def _one_condition(self) -> "Guard":
        given = [self.above is not None, self.below is not None, self.not_finite]
        if sum(given) != 1:
            raise ValueError("write one of above, below and not_finite = true")
        if self.times is not None and self.not_finite:
            raise ValueError("times goes with above or below")
        return self

    @model_validator(mode="after")
    def _what_the_action_needs(self) -> "Guard":
        needs = {"scale": ("knob", "factor"), "set": ("knob", "value")}.get(self.action, ())
        for name in ("knob", "factor", "value"):
            if name in needs and getattr(self, name) is None:
                raise ValueError(f"action = {self.action} needs {name}")
            if name not in needs and getattr(self, name) is not None:
                raise ValueError(f"action = {self.action} takes no {name}")
        if self.factor == 1:
            raise ValueError("factor = 1 changes nothing")
        return self

    def bound(self, knobs: Mapping[str, float]) -> float | None:
        """The number that the figure is held against, None if none is."""
        number = self.below if self.above is None else self.above
        return number if number is None or self.times is None else number * knobs[self.times]

    def holds(self, figure: float, knobs: Mapping[str, float]) -> bool:
        """Whether the rule holds for the figure of a step that ran with these knobs.

        A figure that is no number is neither above nor below anything.
        """
        bound = self.bound(knobs)
        if bound is None:
            return not math.isfinite(figure)
        return figure > bound if self.above is not None else figure < bound

    @property
    def condition(self) -> str:
        """The rule in words, such as `kl above 2 × kl_target`."""
        if self.not_finite:
            return f"{self.metric} not finite"
        word, number = ("below", self.below) if self.above is None else ("above", self.above)
        times = f" × {self.times}" if self.times else ""
        return f"{self.metric} {word} {number:g}{times}"


def _two_or_none(limits: list[float]) -> list[float]:
    if limits and (len(limits) != 2 or limits[0] == limits[1]):
        raise ValueError("write [watch, bad], two different numbers, or [] to give it no word")
    return limits


Limits = Annotated[list[float], AfterValidator(_two_or_none)]
"""From where on a figure is to be watched, and bad; falling figures where bad is the lower one."""


def limits(*watch_and_bad: float, unit: str = "", times: str = "") -> Any:
    """A field of limits; they are multiples of the knob `times` if there is one."""
    unit = f"× {times}" if times else unit
    return Field(list(watch_and_bad), json_schema_extra={"unit": unit, "times": times})


def word(limits: list[float], figure: float) -> Word:
    """`ok`, `watch` or `bad`; empty for a figure without limits, `bad` for what is no number."""
    if not math.isfinite(figure):
        return "bad"
    if not limits:
        return ""
    watch, bad = limits
    sign = 1 if bad > watch else -1
    if sign * figure > sign * bad:
        return "bad"
    return "watch" if sign * figure > sign * watch else "ok"


class LearningHealth(Section):
    """Limits of the figures of a fine-tuning run: [watch, bad], or [] for none."""

    grad_norm: Limits = limits(100.0, 1000.0)
    """Length of the gradient before it is shortened; large ones mean an unstable run."""


class RewardHealth(LearningHealth):
    """Limits of the figures of a reward model: [watch, bad], or [] for none."""

    eval_accuracy: Limits = limits(0.55, 0.5, unit="share of pairs")
    """Held-out pairs in the right order; at 0.5 it guesses."""


class DpoHealth(RewardHealth):
    """Limits of the figures of a DPO run: [watch, bad], or [] for none."""

    kl: Limits = limits(20.0, 60.0, unit="nats per response")
    """Drift of the policy's own answers from the reference."""
    eos_rate: Limits = limits(0.8, 0.3, unit="share of responses")
    """Responses that end themselves; few of them mean answers that never end."""


class AnswersHealth(Section):
    """Limits of the figures of answers: [watch, bad], or [] for none."""

    eos_rate: Limits = limits(0.8, 0.3, unit="share of responses")
    """Responses that end themselves; few of them mean answers that never end."""


class PpoHealth(Section):
    """Limits of the figures of a PPO run: [watch, bad], or [] for none."""

    kl: Limits = limits(2.0, 4.0, times="kl_target")
    """Drift from the reference as a multiple of the target."""
    entropy: Limits = limits(0.5, 0.1, unit="nats per token")
    """Falls to 0 when the policy says always the same."""
    clip_fraction: Limits = limits(0.3, 0.5, unit="share of tokens")
    """Tokens whose ratio was clipped; many of them mean too large updates."""
    approx_kl: Limits = limits(0.05, 0.2, unit="nats per token")
    """How far one step's updates moved the policy."""
    value_loss: Limits = limits()
    """Error of the value role; its scale is that of the score, so it has no limit by default."""
    explained_variance: Limits = limits(0.0, -1.0)
    """Share of the returns that the value role foresees; below 0 it does harm."""
    score_std: Limits = limits(0.02, 0.001)
    """Spread of the scores in a batch; without any there is nothing to learn from."""
    response_tokens: Limits = limits(unit="tokens")
    """Mean length of a response."""
    eos_rate: Limits = limits(0.8, 0.3, unit="share of responses")
    """Responses that end themselves; few of them mean answers that never end."""
    grad_norm: Limits = limits(100.0, 1000.0)
    """Length of the gradient before it is shortened; large ones mean an unstable run."""
    logp_mismatch: Limits = limits(0.01, 0.1, unit="nats per token")
    """Difference between the log-probs while sampling and while training."""
