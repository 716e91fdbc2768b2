"""Rows of any usual format as conversations (SFT), pairs (reward, DPO) or prompts (PPO)."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rlhf_engine.data import parts
from rlhf_engine.data.errors import DataError
from rlhf_engine.data.fields import COLUMNS, Fields, check_mapping, names, view
from rlhf_engine.data.messages import Message, Messages, Unusable, is_transcript
from rlhf_engine.data.report import Report
from rlhf_engine.data.sources import Row
from rlhf_engine.job.sections import Format

__all__ = [
    "Conversation",
    "Format",
    "Message",
    "Messages",
    "Pair",
    "Prompt",
    "Report",
    "conversations",
    "detect",
    "pairs",
    "prompt_key",
    "prompts",
]


@dataclass(frozen=True)
class Conversation:
    """A conversation to imitate; it ends with an assistant message."""

    messages: Messages
    where: str


@dataclass(frozen=True)
class Prompt:
    """Messages to answer, the last of them from the user; `key` is a hash of them."""

    messages: Messages
    where: str
    key: str


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, of which a person preferred `chosen`."""

    prompt: Messages
    chosen: str
    rejected: str
    where: str


Item = TypeVar("Item")


def detect(fields: Mapping[str, Any], where: str = "the row") -> Format:
    """Tell the format of a row by its keys; an error names the keys that it has."""
    row = Fields(where, fields)
    if row.column("chosen") and row.column("rejected"):
        return "hh" if is_transcript(fields["chosen"]) else "pairs"
    if row.column("messages"):
        return "chat"
    if row.column("prompt"):
        return "prompt_completion" if row.column("completion") else "prompts"
    if row.column("text"):
        return "prompts"
    raise DataError(
        f"{where}: none of the known formats; the keys are {names(fields)}. Map your columns under "
        f"`columns` to {', '.join(COLUMNS)}"
    )


def conversations(
    rows: Sequence[Row],
    format: Format = "auto",
    *,
    system: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> tuple[list[Conversation], Report]:
    """Read rows for SFT: whole conversations; of a pair, the chosen side."""

    def read(row: Fields, format: Format) -> Conversation:
        return Conversation(_with_system(parts.conversation(row, format), system), row.where)

    return _each(rows, format, columns, read)


def pairs(
    rows: Sequence[Row],
    format: Format = "auto",
    *,
    system: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> tuple[list[Pair], Report]:
    """Read rows for a reward model or DPO: two answers to one prompt.

    The prompt is all before the last assistant turn. Where the two sides part earlier, it ends
    with the last user turn that they share, and the answers are the turns right after it.
    """

    def read(row: Fields, format: Format) -> Pair:
        prompt, chosen, rejected = parts.pair(row, format)
        return Pair(_with_system(prompt, system), chosen, rejected, row.where)

    return _each(rows, format, columns, read)


def prompts(
    rows: Sequence[Row],
    format: Format = "auto",
    *,
    system: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> tuple[list[Prompt], Report]:
    """Read rows for sampling: the prompt part of any format."""

    def read(row: Fields, format: Format) -> Prompt:
        messages = _with_system(parts.prompt(row, format), system)
        return Prompt(messages, row.where, prompt_key(messages))

    return _each(rows, format, columns, read)


def _each(
    rows: Sequence[Row],
    format: Format,
    columns: Mapping[str, str] | None,
    read: Callable[[Fields, Format], Item],
) -> tuple[list[Item], Report]:
    if not rows:
        raise DataError("there are no rows to read. Check the data path and the row limit")
    check_mapping(columns or {}, rows[0].where)
    format = format if format != "auto" else detect(view(rows[0], columns).values, rows[0].where)
    report, items = Report(format, len(rows)), []
    for row in rows:
        try:
            items.append(read(view(row, columns), format))
        except Unusable as reason:
            report.drop(str(reason), row.where)
    report.kept = len(items)
    if not items:
        raise DataError(
            f"{rows[0].where.rpartition(':')[0]}: no row can be used. "
            + "; ".join(report.lines()[1:])
        )
    return items, report


def _with_system(messages: Messages, system: str | None) -> Messages:
    """Put the system message first; a row's own system message stays instead."""
    if not system or messages[0].role == "system":
        return messages
    return (Message("system", system), *messages)


def prompt_key(messages: Messages) -> str:
    """What tells prompts apart: a hash of the messages."""
    text = json.dumps([[m.role, m.content] for m in messages])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
