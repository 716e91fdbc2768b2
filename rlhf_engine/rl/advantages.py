"""Advantages: of tokens by a value function, of whole responses by their group."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_engine.rl.masked import masked_var


class Advantages(NamedTuple):
    advantages: Tensor
    returns: Tensor


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Advantages:
    """Generalised advantage estimation; nothing follows the last response token. All (B, T).

    Schulman et al. 2016, equation 16; returns = advantages + values. Both are 0 on padding, which
    stands to the right of the response and whose rewards and values do not matter.
    """
    rewards, values = (torch.where(mask.bool(), x, torch.zeros_like(x)) for x in (rewards, values))
    advantages = torch.zeros_like(values)
    running = following = values.new_zeros(len(values))
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * following - values[:, t]
        running = delta + gamma * lam * running
        following = values[:, t]
        advantages[:, t] = running
    return Advantages(advantages, advantages + values)


def pooled(scores: Tensor, group_size: int, responses: Sequence[Sequence[int]]) -> Tensor:
    """Scores with their mean wherever a group has the same response several times. (B,) -> (B,).

    Two copies measured in different micro-batches differ by rounding, which a group estimator that
    divides by the deviation would turn into an advantage of one over the other.
    """
    copies: dict[tuple[int, ...], list[int]] = {}
    for row, response in enumerate(responses):
        copies.setdefault((row // group_size, *response), []).append(row)
    exact = scores.double().clone()
    for rows in copies.values():
        if len(rows) > 1:
            exact[rows] = exact[rows].mean()
    return exact.to(scores.dtype)


def rloo(scores: Tensor, group_size: int) -> Tensor:
    """Score minus the mean of the others in its group; groups are consecutive rows. (B,) -> (B,).

    Ahmadian et al. 2024, equation 8.
    """
    groups = scores.view(-1, group_size)
    others = (groups.sum(-1, keepdim=True) - groups) / (group_size - 1)
    return (groups - others).flatten()


def grpo(scores: Tensor, group_size: int, epsilon: float = 1e-6) -> Tensor:
    """Score standardised within its group (unbiased deviation). (B,) -> (B,). Shao et al. 2024."""
    # In fp32 the rounding of the mean of equal scores is as large as epsilon: it would become
    # advantages of up to 0.5 where there is nothing to learn.
    groups = scores.double().view(-1, group_size)
    deviation = groups.std(-1, keepdim=True)
    advantages = (groups - groups.mean(-1, keepdim=True)) / (deviation + epsilon)
    return advantages.flatten().to(scores.dtype)


def dr_grpo(scores: Tensor, group_size: int) -> Tensor:
    """Score minus its group's mean, without scaling. (B,) -> (B,). Liu et al. 2025."""
    groups = scores.view(-1, group_size)
    return (groups - groups.mean(-1, keepdim=True)).flatten()


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - var(returns - values) / var(returns) over the mask; 0 if the returns do not vary."""
    spread = masked_var(returns, mask)
    left = masked_var(returns - values, mask)
    return torch.where(spread > 0, 1.0 - left / spread.clamp(min=1e-12), torch.zeros_like(spread))
