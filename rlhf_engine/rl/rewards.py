"""From one score a response to one reward a token."""

from typing import Literal

import torch
from torch import Tensor


def apply_missing_eos(
    scores: Tensor,
    finished: Tensor,
    policy: Literal["replace", "subtract", "none"],
    penalty: float,
) -> Tensor:
    """Score of responses that did not end themselves: -penalty, or less by it. (B,) -> (B,)."""
    if policy == "none":
        return scores
    unfinished = -penalty * torch.ones_like(scores) if policy == "replace" else scores - penalty
    return torch.where(finished.bool(), scores, unfinished)


def penalised_rewards(scores: Tensor, kl_per_token: Tensor, kl_coef: float, mask: Tensor) -> Tensor:
    """Minus kl_coef * kl on each token, plus the score on the last one. (B,), (B, T) -> (B, T).

    Ziegler et al. 2019, equation 2, spread over tokens; a row without tokens gets zeros.
    """
    rewards = torch.where(mask.bool(), -kl_coef * kl_per_token, torch.zeros_like(kl_per_token))
    lengths = mask.long().sum(-1)
    rows = torch.arange(len(scores), device=scores.device)
    last = (lengths - 1).clamp(min=0)
    at_last = torch.where(lengths > 0, scores.to(rewards.dtype), torch.zeros_like(rewards[:, 0]))
    return rewards.index_put((rows, last), at_last, accumulate=True)
