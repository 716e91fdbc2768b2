"""Rule rewards: plain functions of a prompt and a response that a person can check by eye."""

import math
import re
from collections import Counter
from itertools import pairwise
from typing import Protocol


class Rule(Protocol):
    """Scores one response; `finished` says that it ended itself and was not cut at the limit."""

    def __call__(self, prompt: str, response: str, finished: bool) -> float: ...


FRIENDLY = (
    "best wishes",
    "congratulations",
    "enjoy",
    "glad",
    "good luck",
    "great",
    "happy",
    "have fun",
    "hope",
    "lovely",
    "nice",
    "take care",
    "thank you",
    "thanks",
    "well done",
    "welcome",
    "wonderful",
)
"""What counts as friendly, each once however often it is said."""

_FRIENDLY = re.compile(rf"\b(?:{'|'.join(FRIENDLY)})\b")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
# Starts only where a run of stops starts, so that 100,000 exclamation marks stay linear.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++(?!\w)")
_CLOSED = re.compile(r"[.!?…][^\w.!?…]*+\Z")
_STOP_WORDS = frozenset(
    _WORD.findall(
        """about after all also always and another any anything are aren't because been before
        being best better but can can't could did didn't does doesn't doing don't each even
        every for from get give good got had has have having her here him his how how's i'd
        i'll i'm i've into isn't it's its just keep know let let's like made make makes many
        may more most much must myself need never new not now off one only other our out
        over own really say see she should some something still such sure take tell than
        that that's the their them then there there's they thing things this too try two use
        used very want was way well were what what's when where which while who why will
        with without won't would yet you you'd you'll you're you've your yours"""
    )
)
"""Words of three letters and more that say nothing about the topic."""


def friendly_short(prompt: str, response: str, finished: bool) -> float:
    """Reward a short, friendly, complete answer; from -3.75 to 4.

    The sum of `friendly_short_parts`.
    """
    return math.fsum(friendly_short_parts(prompt, response, finished).values())


def friendly_short_parts(prompt: str, response: str, finished: bool) -> dict[str, float]:
    """What `friendly_short` adds up, by name.

    | part | points |
    |---|---|
    | ending | 1 if it ended itself on a closed sentence, -0.25 if only one of these, -1 if none |
    | sentences | 1 for one or two, 0.5 for three, else 0; a last one left open counts as well |
    | friendly | 0.5 for each of up to three different words or phrases of `FRIENDLY` |
    | topic | 0.5 for sharing a content word with the prompt |
    | length | 0 up to 30 words, then falling smoothly: -0.2 at 35, -0.5 at 40, towards -1 |
    | repeats | 0 while at most half of the words, a fifth of the pairs, are repeats; down to -1 |
    | letters | -0.75 if empty, or if at most half of the visible characters are letters |

    Closed means that a full stop, `!`, `?` or `…` follows the last letter.
    """
    text = response.strip()
    words = _words(text)
    closed = bool(words) and _CLOSED.search(text) is not None
    return {
        "ending": _ending(closed, finished and bool(words)),
        "sentences": _sentences(text, closed) if words else 0.0,
        "friendly": 0.5 * min(len(set(_FRIENDLY.findall(text.lower()))), 3),
        "topic": 0.5 if _content(prompt) & _content(text) else 0.0,
        "length": -_excess(len(words), limit=30, scale=10),
        "repeats": -_repetition(words),
        "letters": -0.75 if _mostly_not_letters(text) else 0.0,
    }


def brevity(prompt: str, response: str, finished: bool) -> float:
    """Reward about 20 words; from 0 (empty, or endless) to 1 (exactly 20).

    With n words it is n/20 * exp(1 - n/20).
    """
    share = len(_words(response)) / 20
    return share * math.exp(1 - share)


def ends_itself(prompt: str, response: str, finished: bool) -> float:
    """Reward a response that ends itself within the length limit; 0 or 1."""
    return 1.0 if finished else 0.0


def vowels(prompt: str, response: str, finished: bool) -> float:
    """Reward the share of characters that are one of a, e, i, o, u; from 0 to 1.

    No language needed: a random byte-level model starts near 0.02 and can learn it in a minute.
    """
    return sum(map(response.count, "aeiou")) / max(len(response), 1)


RULES: dict[str, Rule] = {
    "friendly_short": friendly_short,
    "brevity": brevity,
    "ends_itself": ends_itself,
    "vowels": vowels,
}
"""What `rule:<name>` finds."""


def _ending(closed: bool, finished: bool) -> float:
    if closed and finished:
        return 1.0
    return -0.25 if closed or finished else -1.0


def _sentences(text: str, closed: bool) -> float:
    ends = len(_SENTENCE_END.findall(text))
    if ends == 0:
        return 0.0
    return {1: 1.0, 2: 1.0, 3: 0.5}.get(ends if closed else ends + 1, 0.0)


def _excess(count: int, limit: int, scale: int) -> float:
    """0 up to the limit, then rising smoothly towards 1."""
    over = max(count - limit, 0) / scale
    return over**2 / (1 + over**2)


def _repetition(words: list[str]) -> float:
    """From 0 to 1: what is repeated beyond the usual, of words or of word pairs."""
    pairs = list(pairwise(words))
    return max(_beyond(_repeated(words), 0.5), _beyond(_repeated(pairs), 0.2))


def _repeated(items: list[str] | list[tuple[str, str]]) -> float:
    return 1 - len(Counter(items)) / len(items) if items else 0.0


def _beyond(share: float, usual: float) -> float:
    return max(share - usual, 0.0) / (1 - usual)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _content(text: str) -> set[str]:
    return {word for word in _words(text) if len(word) > 2} - _STOP_WORDS


def _mostly_not_letters(text: str) -> bool:
    visible = [char for char in text if not char.isspace()]
    return sum(map(str.isalpha, visible)) * 2 <= len(visible)
