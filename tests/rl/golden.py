"""The golden numbers as tensors."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "golden"


def golden(name: str) -> dict[str, Tensor]:
    """All arrays of one file, in the type they are stored in."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-9) -> None:
    """Assert equality to an absolute and relative tolerance."""
    torch.testing.assert_close(
        ours, theirs.to(ours.dtype), rtol=tolerance, atol=tolerance, check_device=True
    )
