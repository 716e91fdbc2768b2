"""Figures in few cells."""

import pytest

from workbench.format import within


@pytest.mark.parametrize(
    ("value", "cells", "text"),
    [
        (-9.41e-4, 7, "-9.4e-4"),
        (-9.41e-4, 6, "-9e-4"),
        (9.95e-4, 7, "9.95e-4"),
        (-1.67e299, 8, "-1.7e299"),
        (6.117, 7, "6.12"),
        (-12345.6, 7, "-12,346"),
        (float("nan"), 6, "NaN"),
        (None, 6, "–"),
    ],
)
def test_no_power_of_ten_is_cut_off(value: float | None, cells: int, text: str) -> None:
    assert within(value, cells) == text
    assert len(text) <= cells
