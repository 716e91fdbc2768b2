"""Scores shifted and scaled so that the starting policy's first batch has mean 0, deviation 1."""

import math

from torch import Tensor

from rlhf_engine.job.spec import Ppo
from rlhf_engine.stages.stage import Warn

# Scores whose deviation is below this share of the largest of them differ by rounding alone.
FLAT = 1e-5


class ScoreScale:
    """The shift and scale that the first batch fixes for the run."""

    def __init__(self, spec: Ppo) -> None:
        self._form = spec.normalise_score
        self._shift, self._scale = 0.0, 1.0

    def fix(self, raw: Tensor) -> list[Warn]:
        """Fix both by the scores of the first batch, (B,); warn if they allow no scale."""
        if self._form == "none":
            return []
        self._shift, self._scale = float(raw.mean()), 1.0
        if self._form == "mean":
            return []
        spread = deviation(raw)
        if math.isfinite(spread) and spread > FLAT * float(raw.abs().max()):
            self._scale = spread
            return []
        text = (
            f"step 1: the {len(raw)} scores of the first batch have deviation {spread:.2g}, which "
            "cannot be scaled to 1: scores are shifted only (ppo.normalise_score = mean_std); "
            "raise ppo.batch_size, or see what the reward makes of these samples"
        )
        return [Warn("score", text)]

    def __call__(self, raw: Tensor) -> Tensor:
        """The normalised scores. (B,)."""
        return (raw - self._shift) / self._scale

    def state(self) -> dict[str, float]:
        return {"score_shift": self._shift, "score_scale": self._scale}

    def load(self, state: dict[str, float]) -> None:
        self._shift, self._scale = state["score_shift"], state["score_scale"]


def deviation(scores: Tensor) -> float:
    """Standard deviation of a batch; 0 for a single score."""
    return float(scores.std()) if len(scores) > 1 else 0.0
