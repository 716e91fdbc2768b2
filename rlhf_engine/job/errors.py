"""Errors of a spec that a person can act on."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


class SpecError(Exception):
    """A spec, preset or override is wrong; the message says where and what to do."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Say `did you mean X?`, or list the names that exist."""
    known = sorted(names)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


def spec_error(error: "ValidationError", source: str, keys: dict[str, list[str]]) -> SpecError:
    """Turn pydantic's findings into one line each: source, key, what is wrong.

    `keys` holds the field names of every table by its dotted path.
    """
    return SpecError(
        "\n".join(f"{source}: {_line(e['loc'], e, keys)}" for e in error.errors(include_url=False))
    )


def _line(location: Sequence[Any], error: Any, keys: dict[str, list[str]]) -> str:
    # A discriminated union puts the stage's name before the path of the field.
    parts = [str(p) for p in location[1:]]
    path, table = ".".join(parts), ".".join(p for p in parts[:-1] if not p.isdigit())
    match error["type"]:
        case "extra_forbidden":
            return f"{path}: unknown key; {nearest(parts[-1], keys.get(table, []))}"
        case "missing":
            return f"{path}: missing; give it a value"
        case "union_tag_not_found":
            return f"stage: missing; {nearest('', keys['stages'])}"
        case "union_tag_invalid":
            stage = str(error["input"].get("stage"))
            return f"stage: {stage!r} is no stage; {nearest(stage, keys['stages'])}"
        case "value_error":
            return f"{path or 'spec'}: {error['ctx']['error']}"
    return f"{path}: {error['msg'][0].lower()}{error['msg'][1:]}, not {error['input']!r}"
