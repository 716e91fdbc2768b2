"""Text of models and data as it may be shown: nothing in it drives, reorders or hides."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.runs.sample import printable

SCRIPTS = "سلام‌ها نمی‌خواهم क्‍ष 漢字 é 👩‍🚀 naïve\n\ttab"


@pytest.mark.parametrize(
    "hidden",
    [
        *(*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C),
        *(0x200B, 0x2060, 0xFEFF, 0x00AD, 0x2028, 0x2029, 0xE0041),
        *(0x1B, 0x9B, 0x7F, 0x07, 0x0D),
    ],
)
def test_what_acts_without_being_seen_becomes_a_sign(hidden: int) -> None:
    shown = printable(f"a{chr(hidden)}b")
    assert len(shown) == 3
    assert chr(hidden) not in shown
    assert unicodedata.category(shown[1])[0] in "SL"


def test_what_scripts_are_written_with_stays() -> None:
    assert printable(SCRIPTS) == SCRIPTS


@given(st.text())
def test_no_text_keeps_a_control_character(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    assert printable(shown) == shown
