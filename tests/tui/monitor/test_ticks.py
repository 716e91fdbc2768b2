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


@pytest.mark.parametrize("values", [(0.0, 0.0), (-3e-9, 1e-9), (2e-8, 2e-8)])
def test_what_only_rounding_sets_apart_is_one_value_on_an_axis(
    values: tuple[float, float],
) -> None:
    """The first batch's mean score is taken from itself: what is left of it is rounding."""
    low, high = ticks.with_air(*values)
    assert low < -0.4
    assert high > 0.4


@pytest.mark.parametrize("values", [(1e-5, 1e-5), (1e-5, 3e-5), (-2.0, 5.0), (1e6, 1e6)])
def test_other_values_fill_their_axis(values: tuple[float, float]) -> None:
    (bottom, top), (low, high) = values, ticks.with_air(*values)
    assert low < bottom <= top < high
    assert high - low <= max(1.2 * (top - bottom), 0.21 * abs(top))
