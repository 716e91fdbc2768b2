"""Losses of PPO and of the reward model.

Token losses take a `denominator`, the token count of the whole minibatch, so that the sum over
micro-batches is the masked mean over the minibatch.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_engine.rl.masked import masked_sum


class PolicyLoss(NamedTuple):
    """The loss, and sums over its tokens for the metrics (not divided)."""

    loss: Tensor
    clipped: Tensor
    approx_kl: Tensor
    ratio_error: Tensor


class ValueLoss(NamedTuple):
    loss: Tensor
    clipped: Tensor


class RewardLoss(NamedTuple):
    loss: Tensor
    correct: Tensor
    margin: Tensor


def policy_loss(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip: float,
    denominator: Tensor | float | None = None,
) -> PolicyLoss:
    """Clipped surrogate, negated. All (B, T). Schulman et al. 2017, equation 7.

    `clipped` and `approx_kl` ((log r)^2 / 2) are sums over tokens, `ratio_error` is the largest
    |r - 1|; all carry no gradient.
    """
    count = mask.sum().clamp(min=1) if denominator is None else denominator
    log_ratio = torch.where(mask.bool(), logp - old_logp, torch.zeros_like(logp))
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    bounded = -advantages * ratio.clamp(1.0 - clip, 1.0 + clip)
    loss = masked_sum(torch.maximum(plain, bounded), mask) / count
    with torch.no_grad():
        clipped = masked_sum((bounded > plain).to(logp.dtype), mask)
        approx_kl = masked_sum(0.5 * log_ratio**2, mask)
        error = (ratio - 1.0).abs().amax() if ratio.numel() else ratio.new_zeros(())
    return PolicyLoss(loss, clipped, approx_kl, error)


def value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    clip: float,
    denominator: Tensor | float | None = None,
) -> ValueLoss:
    """Half the larger of the plain and the clipped squared error. All (B, T).

    The form of OpenAI's baselines; `clipped` is a sum over tokens.
    """
    count = mask.sum().clamp(min=1) if denominator is None else denominator
    # What stands on padding must not reach the gradient either: 0 * NaN is NaN.
    values, old_values, returns = (
        torch.where(mask.bool(), x, torch.zeros_like(x)) for x in (values, old_values, returns)
    )
    bounded = values.clamp(old_values - clip, old_values + clip)
    plain_error, bounded_error = (values - returns) ** 2, (bounded - returns) ** 2
    loss = 0.5 * masked_sum(torch.maximum(plain_error, bounded_error), mask) / count
    clipped = masked_sum((bounded_error > plain_error).to(values.dtype), mask).detach()
    return ValueLoss(loss, clipped)


def reward_loss(
    chosen: Tensor,
    rejected: Tensor,
    margin: Tensor | None = None,
    centre_coef: float = 0.0,
    denominator: float | None = None,
) -> RewardLoss:
    """-log sigmoid(chosen - rejected - margin), plus the centring penalty. (N,), (N,).

    Bradley-Terry; Ouyang et al. 2022, equation 1; centring as Eisenstein et al. 2023. `correct`
    counts pairs with chosen strictly above rejected, `margin` sums the differences.
    """
    count = denominator or max(1, len(chosen))
    difference = chosen - rejected
    inside = difference if margin is None else difference - margin
    loss = -torch.nn.functional.logsigmoid(inside).sum() / count
    if centre_coef:
        loss = loss + centre_coef * ((chosen + rejected) ** 2).sum() / count
    return RewardLoss(loss, (difference > 0).sum().detach(), difference.sum().detach())
