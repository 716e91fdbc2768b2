"""The order of rows depends on seed and step alone; padding keeps every token."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.data.batches import batch_indices, order, pad_left, pad_right, position_ids

ROWS = st.integers(1, 40)


@given(ROWS, st.integers(0, 2**32), st.integers(0, 5))
def test_an_epoch_has_each_row_once(rows: int, seed: int, epoch: int) -> None:
    assert sorted(order(rows, seed, epoch)) == list(range(rows))


def test_the_order_never_changes_between_versions_and_platforms() -> None:
    assert order(10, seed=0, epoch=0) == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    assert order(10, seed=0, epoch=1) == [7, 4, 5, 1, 9, 8, 6, 2, 0, 3]


def test_seeds_and_epochs_differ() -> None:
    assert order(100, 1, 0) != order(100, 2, 0) != order(100, 2, 1)


@given(ROWS, st.integers(1, 50), st.integers(1, 6), st.integers(0, 9))
def test_batches_lay_the_epochs_end_to_end(rows: int, batch: int, steps: int, seed: int) -> None:
    seen = [i for step in range(1, steps + 1) for i in batch_indices(step, batch, rows, seed)]
    epochs = [i for epoch in range(len(seen) // rows + 1) for i in order(rows, seed, epoch)]
    assert seen == epochs[: steps * batch]


def test_padding_and_positions() -> None:
    ids, mask = pad_left([[5, 6, 7], [8]], pad_id=0)
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert position_ids(mask).tolist() == [[0, 1, 2], [0, 0, 0]]
    ids, mask = pad_right([[5, 6, 7], [8]], pad_id=0)
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize("pad", [pad_left, pad_right])
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=5))
def test_padding_keeps_tokens_equal_to_the_pad_id(
    pad: Callable[..., tuple[torch.Tensor, torch.Tensor]], sequences: list[list[int]]
) -> None:
    ids, mask = pad(sequences, 0)
    assert ids.dtype == mask.dtype == torch.long
    assert [row[m.bool()].tolist() for row, m in zip(ids, mask, strict=True)] == sequences
    for row in position_ids(mask).masked_fill(mask == 0, -1):
        real = row[row >= 0]
        assert real.tolist() == list(range(len(real)))
