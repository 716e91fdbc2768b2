"""Order and padding of rows; order has no state, so a step number is the whole data position."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def order(rows: int, seed: int, epoch: int) -> list[int]:
    """Permutation of `range(rows)` for one epoch (0-based).

    It sorts raw PCG64 output, the one stream that NumPy promises never to change (NEP 19), so a
    run resumes in the same order on every platform and version.
    """
    generator = np.random.PCG64(np.random.SeedSequence([seed, epoch]))
    return [int(i) for i in np.argsort(generator.random_raw(rows), kind="stable")]


def batch_indices(step: int, batch: int, rows: int, seed: int) -> list[int]:
    """Rows of the 1-based `step`: a window of `batch` on the shuffled epochs laid end to end."""
    start = (step - 1) * batch
    first, last = start // rows, (start + batch - 1) // rows
    epochs = [row for epoch in range(first, last + 1) for row in order(rows, seed, epoch)]
    return epochs[start - first * rows :][:batch]


def pad_left(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Pad at the start, for generation: ids and attention mask (1 on tokens), both int64 (B, T)."""
    width = max(len(s) for s in sequences)
    ids = [[pad_id] * (width - len(s)) + list(s) for s in sequences]
    mask = [[0] * (width - len(s)) + [1] * len(s) for s in sequences]
    return torch.tensor(ids, dtype=torch.long), torch.tensor(mask, dtype=torch.long)


def pad_right(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Pad at the end, for training: ids and attention mask (1 on tokens), both int64 (B, T)."""
    width = max(len(s) for s in sequences)
    ids = [list(s) + [pad_id] * (width - len(s)) for s in sequences]
    mask = [[1] * len(s) + [0] * (width - len(s)) for s in sequences]
    return torch.tensor(ids, dtype=torch.long), torch.tensor(mask, dtype=torch.long)


def position_ids(mask: Tensor) -> Tensor:
    """Position of each token among the real ones, 0 on left padding. (B, T) -> int64 (B, T)."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)
