"""Two texts word by word: what stands in one only, and what in both."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Literal

# Beyond this many words a comparison would take seconds.
MOST_WORDS = 3000


def word_diff(before: str, after: str) -> Iterator[tuple[Literal["same", "gone", "new"], str]]:
    """Runs of words with the blanks behind them; long texts are compared at their beginnings."""
    old, new = (re.findall(r"\S+\s*|\s+", text)[:MOST_WORDS] for text in (before, after))
    keys = [word.strip() for word in old], [word.strip() for word in new]
    matcher = SequenceMatcher(None, *keys, autojunk=False)
    for what, a, b, c, d in matcher.get_opcodes():
        if what == "equal":
            yield "same", "".join(new[c:d])
            continue
        if b > a:
            yield "gone", "".join(old[a:b])
        if d > c:
            yield "new", "".join(new[c:d])
