"""The labels of an axis stay short and apart, however large its numbers are."""

import pytest

from workbench.widgets import ticks


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 2e29), (-1e29, 1e29), (0.0, 5e6), (5e6, 5e6 + 10), (-3e-7, 4e-7), (0.0, 1.0)],
)
def test_labels_are_short_and_none_stands_twice(low: float, high: float) -> None:
    values, labels = ticks.linear(low, high, 6)
    assert len(values) > 2
    assert len(set(labels)) == len(labels)
    assert max(map(len, labels)) <= 12


def test_labels_below_a_million_are_written_out() -> None:
    assert ticks.linear(0, 400_000, 3)[1] == ["0", "200000", "400000"]
