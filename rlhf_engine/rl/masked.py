"""Means, variances and whitening over the tokens that count."""

import torch
from torch import Tensor


def masked_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Sum of `x` where the mask is 1; what stands elsewhere, NaN included, does not matter."""
    return torch.where(mask.bool(), x, torch.zeros_like(x)).sum()


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of `x` where the mask is 1; 0 if it is nowhere."""
    return masked_sum(x, mask) / mask.sum().clamp(min=1)


def masked_var(x: Tensor, mask: Tensor, unbiased: bool = True) -> Tensor:
    """Variance of `x` where the mask is 1; 0 for fewer than two tokens."""
    variance = masked_mean((x - masked_mean(x, mask)) ** 2, mask)
    count = mask.sum()
    if unbiased:
        variance = variance * count / (count - 1).clamp(min=1)
    return torch.where(count > 1, variance, torch.zeros_like(variance))


def whiten(x: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """Scale to unit variance over the mask (unbiased), around 0 or around the old mean.

    As TRL's `masked_whiten`.
    """
    # Double, since the rounding of an fp32 mean is scaled up by 1e4 where all values are equal.
    exact = x.double()
    mean = masked_mean(exact, mask)
    white = (exact - mean) * torch.rsqrt(masked_var(exact, mask) + 1e-8)
    return (white if shift_mean else white + mean).to(x.dtype)
