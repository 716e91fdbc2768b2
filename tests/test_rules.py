"""The shipped rules prefer what they say they prefer, and take any text."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.rules import FRIENDLY, RULES, friendly_short, friendly_short_parts, vowels

PROMPT = "How do I keep my basil alive on the windowsill?"
FRIENDLY_SHORT = "I'm glad you asked! Give the basil plenty of light."
NEUTRAL_SHORT = "Give the basil plenty of light and a little water."
LONG = (
    "Basil needs light, water and warmth. Put it on a bright sill and turn it every few days. "
    "Water it from below when the soil feels dry. Pinch the tips, so that it grows bushy. "
    "Feed it every second week in summer. Move it away from the cold glass on winter nights."
)
UNFINISHED = LONG[:150]

BOUNDS = {
    "friendly_short": (-3.75, 4.0),
    "brevity": (0.0, 1.0),
    "ends_itself": (0.0, 1.0),
    "vowels": (0.0, 1.0),
}

any_text = st.text(st.characters(), max_size=200) | st.text(" .!?'aeglnoy\n\x00😊", max_size=200)


def parts(response: str, finished: bool = True, prompt: str = PROMPT) -> dict[str, float]:
    return friendly_short_parts(prompt, response, finished)


def test_friendly_short_ranks_answers_as_a_reader_would() -> None:
    ranked = [
        friendly_short(PROMPT, FRIENDLY_SHORT, True),
        friendly_short(PROMPT, NEUTRAL_SHORT, True),
        friendly_short(PROMPT, LONG, True),
        friendly_short(PROMPT, UNFINISHED, False),
        friendly_short(PROMPT, "", True),
    ]
    assert ranked == sorted(ranked, reverse=True)
    assert len(set(ranked)) == len(ranked)


def test_friendly_short_adds_up_as_documented() -> None:
    assert parts(FRIENDLY_SHORT) == {
        "ending": 1.0,
        "sentences": 1.0,
        "friendly": 0.5,
        "topic": 0.5,
        "length": 0.0,
        "repeats": 0.0,
        "letters": 0.0,
    }
    assert friendly_short(PROMPT, FRIENDLY_SHORT, True) == 3.0


@pytest.mark.parametrize(
    ("response", "finished", "points"),
    [
        ("Water it.", True, 1.0),
        ('Say "water it!"', True, 1.0),
        ("Water it! 😊", True, 1.0),
        ("Water it", True, -0.25),
        ("Water it.", False, -0.25),
        ("Water it. And then", False, -1.0),
        ("...", True, -1.0),
    ],
)
def test_an_ending_needs_both_the_stop_and_the_end_of_sequence(
    response: str, finished: bool, points: float
) -> None:
    assert parts(response, finished)["ending"] == points


@pytest.mark.parametrize(
    ("response", "points"),
    [
        ("Give it light", 0.0),
        ("Give it light.", 1.0),
        ("Give it 2.5 cups... Really!", 1.0),
        ("Light. Water. And", 0.5),
        ("Light. Water. Air.", 0.5),
        ("Light. Water. Air. Love.", 0.0),
    ],
)
def test_one_or_two_sentences_are_best(response: str, points: float) -> None:
    assert parts(response)["sentences"] == points


def test_a_friendly_word_counts_once_and_three_are_enough() -> None:
    assert parts("Enjoy the basil. Enjoy it, enjoy it!")["friendly"] == 0.5
    assert parts("Good luck and enjoy the basil.")["friendly"] == 1.0
    assert parts("; ".join(FRIENDLY))["friendly"] == 1.5
    assert parts("A greatly unhappy, joyless answer.")["friendly"] == 0.0


def test_repeating_a_friendly_word_loses_to_an_answer() -> None:
    spam = friendly_short(PROMPT, "glad " * 30 + "glad.", True)
    assert spam < friendly_short(PROMPT, NEUTRAL_SHORT, True)
    assert parts("glad " * 30)["repeats"] < -0.9
    assert parts("I'm so happy to help. " * 5)["repeats"] < -0.5
    assert parts(LONG)["repeats"] == 0.0


def test_gushing_off_topic_loses_the_topic_points() -> None:
    assert parts("I hope your BASIL grows.")["topic"] == 0.5
    assert parts("I hope that you keep well on your way.")["topic"] == 0.0


def test_length_is_free_up_to_thirty_words_then_costs_more_and_more() -> None:
    costs = [-parts("leaf " * n)["length"] for n in (1, 30, 31, 40, 60, 10_000)]
    assert costs[:2] == [0.0, 0.0]
    assert costs == sorted(costs)
    assert 0 < costs[2] < 0.02
    assert costs[3] == 0.5
    assert costs[5] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("response", ["", "  \n", "!!!", "😊😊😊", "1234 5678.", "\x00\x07"])
def test_no_letters_is_worse_than_any_short_sentence(response: str) -> None:
    assert parts(response)["letters"] == -0.75
    assert friendly_short(PROMPT, response, True) < friendly_short(PROMPT, "Yes.", True) - 2


def test_brevity_peaks_at_twenty_words() -> None:
    scores = {n: RULES["brevity"](PROMPT, "leaf " * n, True) for n in range(100)}
    assert max(scores, key=scores.__getitem__) == 20
    assert scores[20] == pytest.approx(1.0)
    assert scores[0] == 0.0
    assert scores[19] > scores[10] > scores[5]
    assert scores[21] > scores[40] > scores[80]


def test_ends_itself_looks_at_the_end_alone() -> None:
    assert RULES["ends_itself"](PROMPT, "", True) == 1.0
    assert RULES["ends_itself"](PROMPT, NEUTRAL_SHORT, False) == 0.0


@pytest.mark.parametrize(
    ("response", "share"), [("", 0.0), ("aeiou", 1.0), ("basil", 0.4), ("AEIOU", 0.0), ("xyz", 0.0)]
)
def test_vowels_is_the_share_of_lower_case_vowels(response: str, share: float) -> None:
    assert vowels(PROMPT, response, False) == share


def test_every_rule_says_first_what_it_rewards_and_its_range() -> None:
    assert RULES.keys() == BOUNDS.keys()
    for rule in RULES.values():
        summary = (rule.__doc__ or "").splitlines()[0]
        assert re.match(r"Reward .*; (from \S+ .*to|0 or) \d", summary)


@given(prompt=any_text, response=any_text, finished=st.booleans())
def test_every_rule_is_finite_and_in_its_range_on_any_text(
    prompt: str, response: str, finished: bool
) -> None:
    for name, rule in RULES.items():
        low, high = BOUNDS[name]
        score = rule(prompt, response, finished)
        assert math.isfinite(score)
        assert low <= score <= high


@pytest.mark.parametrize(
    "unit", ["glad ", "!", '."', "a'", ".\n", ".,", "\x00", "😊", "é", "Good luck. "]
)
def test_every_rule_takes_a_hundred_thousand_characters(unit: str) -> None:
    response = unit * (100_000 // len(unit)) + "x"
    for name, rule in RULES.items():
        low, high = BOUNDS[name]
        assert low <= rule(PROMPT, response, False) <= high
