"""The words of a filter over the list of runs: `kind:ppo kl>8 -state:lost word`."""

import operator
import re
from collections.abc import Callable, Iterable

from workbench.runs_list import RunRow


class FilterError(ValueError):
    """A filter says something that cannot be; the message says what can."""


Test = Callable[[RunRow], bool]
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_NUMBERS: dict[str, Callable[[RunRow], float | None]] = {
    "kl": lambda row: row.kl,
    "score": lambda row: row.score,
    "step": lambda row: row.state.step,
}
_WORDS: dict[str, Callable[[RunRow], str]] = {
    "kind": lambda row: row.stage,
    "stage": lambda row: row.stage,
    "state": lambda row: row.state.word,
    "name": lambda row: row.name,
    "device": lambda row: row.device,
}


def parse_filter(text: str) -> Callable[[Iterable[RunRow]], list[RunRow]]:
    """What a filter keeps: `kind:ppo kl>8 -state:lost word`; all parts must hold.

    `-` before a part turns it round. Raises FilterError with what can be written instead.
    """
    tests = [_part(part) for part in text.split()]
    return lambda rows: [row for row in rows if all(test(row) for test in tests)]


def _part(part: str) -> Test:
    negated, bare = part.startswith("-") and len(part) > 1, part.removeprefix("-") or part
    test = _test(bare)
    return (lambda row: not test(row)) if negated else test


def _test(part: str) -> Test:
    if found := re.fullmatch(r"(\w+)(<=|>=|<|>|=)(.*)", part):
        return _comparison(*found.groups())
    name, colon, wanted = part.lower().partition(":")
    if colon and name not in _WORDS:
        raise FilterError(f"{name}: is not known; known: {', '.join(f'{w}:' for w in _WORDS)}")
    if colon:
        return lambda row: wanted in _WORDS[name](row).lower()
    return lambda row: any(part.lower() in text.lower() for text in _texts(row))


def _texts(row: RunRow) -> tuple[str, ...]:
    return (row.id, row.stage, row.state.word, row.device)


def _comparison(name: str, sign: str, wanted: str) -> Test:
    number = _NUMBERS.get(name.lower())
    if number is None:
        raise FilterError(f"{name} is no figure of the list; known: {', '.join(_NUMBERS)}")
    try:
        limit = float(wanted)
    except ValueError:
        raise FilterError(f"{name}{sign} needs a number, for example {name}{sign}8") from None

    def test(row: RunRow) -> bool:
        value = number(row)
        return value is not None and _COMPARE[sign](value, limit)

    return test
