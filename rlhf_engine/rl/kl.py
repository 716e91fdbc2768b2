"""Estimators of the KL divergence from samples (Schulman 2020, "Approximating KL divergence")."""

from typing import Literal

import torch
from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]
K3_CAP = 10.0


def k1(logp: Tensor, ref_logp: Tensor) -> Tensor:
    """Per-token KL estimate logp - ref_logp: unbiased, can be negative. (B, T) -> (B, T)."""
    return logp - ref_logp


def k2(logp: Tensor, ref_logp: Tensor) -> Tensor:
    """Per-token KL estimate (logp - ref_logp)^2 / 2: biased, never negative. (B, T) -> (B, T)."""
    return 0.5 * (logp - ref_logp) ** 2


def k3(logp: Tensor, ref_logp: Tensor) -> Tensor:
    """Per-token KL estimate exp(r) - 1 - r with r = ref - policy: unbiased, never negative.

    Capped at 10 nats a token, as in verl: one token far off would overflow or drown all others.
    """
    ratio = ref_logp - logp
    return (torch.expm1(ratio) - ratio).clamp(max=K3_CAP)


def per_token_kl(estimator: Estimator, logp: Tensor, ref_logp: Tensor) -> Tensor:
    """The chosen estimate of each token. (B, T) -> (B, T), in nats."""
    return {"k1": k1, "k2": k2, "k3": k3}[estimator](logp, ref_logp)


def sequence_kl(per_token: Tensor, mask: Tensor) -> Tensor:
    """Sum over response tokens. (B, T) -> (B,), in nats per response."""
    return torch.where(mask.bool(), per_token, torch.zeros_like(per_token)).sum(-1)
