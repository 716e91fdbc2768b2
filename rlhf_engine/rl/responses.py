"""Where a response ends."""

from collections.abc import Collection

import torch
from torch import Tensor


def response_mask(tokens: Tensor, eos_ids: Collection[int]) -> tuple[Tensor, Tensor]:
    """Mask of the tokens up to the first end token, and whether there is one.

    (B, T) -> (B, T), (B,). Nothing depends on a pad token, which may equal the end token.
    """
    ends = torch.isin(tokens, torch.tensor(list(eos_ids), device=tokens.device))
    before = ends.long().cumsum(-1) - ends.long()
    return before == 0, ends.any(-1)


def lengths(mask: Tensor) -> Tensor:
    """Tokens of each response, its end token included. (B, T) -> (B,)."""
    return mask.long().sum(-1)
