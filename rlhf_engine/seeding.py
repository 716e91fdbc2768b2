"""Randomness as a function of seed, purpose and step: nothing random outlives a step."""

import random
import zlib

import numpy as np
import torch
from torch import Tensor


def derived(seed: int, purpose: str, step: int) -> int:
    """A 63-bit seed for one purpose at one step."""
    keys = [seed, zlib.crc32(purpose.encode()), step]
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, purpose: str, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(derived(seed, purpose, step))


def noise(seed: int, purpose: str, step: int, rows: int, columns: int) -> Tensor:
    """Uniform numbers in [0, 1) on the CPU: the same on every device. (rows, columns)."""
    return torch.rand((rows, columns), generator=generator(seed, purpose, step))


def permutation(seed: int, purpose: str, step: int, size: int) -> list[int]:
    return torch.randperm(size, generator=generator(seed, purpose, step)).tolist()


def seed_libraries(seed: int, step: int) -> None:
    """Seed the global generators at the start of a step, for a person's own reward functions."""
    value = derived(seed, "libraries", step)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)
