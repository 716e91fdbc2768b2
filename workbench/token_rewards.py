"""What PPO paid each token of a response, made again from what the run recorded of it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from rlhf_engine.job.errors import SpecError
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.reader import SampleRow, StoreReader
from rlhf_engine.runs.sample import Sample

# The engine's own cap on k3; the largest ratio whose exponential is worth taking lies far above it.
K3_CAP, FAR = 10.0, 50.0


@dataclass(frozen=True)
class RewardRule:
    """How a PPO run makes rewards of tokens: the estimator whose KL is priced, and whether the
    rewards of a batch are scaled to unit variance afterwards, which one sample cannot tell."""

    estimator: str
    whitened: bool

    @classmethod
    def of(cls, run: RunDir) -> Self | None:
        """The rule of a run; None for a stage without rewards of tokens."""
        from rlhf_engine.job.spec import PpoSpec

        try:
            spec = run.spec()
        except SpecError:
            return None
        if not isinstance(spec, PpoSpec):
            return None
        return cls(spec.ppo.kl.estimator, spec.ppo.whiten_rewards)

    def rewards(self, sample: Sample, knobs: Mapping[str, float]) -> tuple[float, ...]:
        """Minus kl_coef * KL on each token, plus the score on the last one, before any whitening.

        `knobs` are those of the sample's step. Empty for what was not trained on.
        """
        coef, score, count = knobs.get("kl_coef"), sample.score, len(sample.logp)
        recorded = count > 0 and len(sample.ref_logp) == count
        if sample.kind != "train" or coef is None or score is None or not recorded:
            return ()
        priced = ESTIMATORS[self.estimator]
        pairs = zip(sample.logp, sample.ref_logp, strict=True)
        # Taken from 0: what costs nothing is no negative zero.
        *others, last = [0.0 - coef * priced(own - reference) for own, reference in pairs]
        return (*others, last + score)


class TokenRewards:
    """What the tokens of a run's samples were paid, each at the price that its step ran with."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._knobs: dict[tuple[int, int], dict[str, float]] = {}

    @cached_property
    def _rule(self) -> RewardRule | None:
        return RewardRule.of(self._run)

    @property
    def whitened(self) -> bool:
        """Whether the run scaled them afterwards, which one sample cannot tell."""
        return self._rule is not None and self._rule.whitened

    def of(self, reader: StoreReader, row: SampleRow) -> tuple[float, ...]:
        """Empty for what was not trained on, and for a stage without rewards of tokens."""
        if self._rule is None:
            return ()
        place = row.session, row.step
        if place not in self._knobs:
            self._knobs[place] = reader.knobs_of_step(*place)
        return self._rule.rewards(row.sample, self._knobs[place])


def _k2(ratio: float) -> float:
    return 0.5 * ratio * ratio


def _k3(ratio: float) -> float:
    away = min(-ratio, FAR)
    return min(math.expm1(away) - away, K3_CAP)


# By the log-ratio of policy to reference (Schulman 2020).
ESTIMATORS: dict[str, Callable[[float], float]] = {"k1": lambda ratio: ratio, "k2": _k2, "k3": _k3}
