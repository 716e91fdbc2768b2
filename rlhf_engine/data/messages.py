"""Turns of a conversation, and the ways in which data sets write them down."""

import re
from dataclasses import dataclass
from typing import Any

from rlhf_engine.data.errors import DataError
from rlhf_engine.data.files import type_name

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
OTHER_ROLE = "has a role other than system, user and assistant"
NOT_TRANSCRIPT = "is not a Human/Assistant transcript"
BAD_UNICODE = "text is not valid Unicode"
TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


@dataclass(frozen=True)
class Message:
    """One turn; role is `system`, `user` or `assistant`."""

    role: str
    content: str


Messages = tuple[Message, ...]


class Unusable(Exception):
    """A well-formed row that training must leave out; the text is the reason that is counted."""


def valid_text(value: object, key: str, where: str) -> str:
    """Return the text; a wrong type is an error, half a surrogate pair leaves the row out."""
    if not isinstance(value, str):
        raise DataError(
            f"{where}: {key!r} is {type_name(value)}, not text. Correct the row, or name another "
            "column under `columns`"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Unusable(BAD_UNICODE) from None
    return value


def chat(value: object, key: str, where: str) -> Messages:
    """Read a list of `{role, content}` or `{from, value}` objects."""
    if not isinstance(value, list):
        raise DataError(f"{where}: {key!r} is {type_name(value)}, not a list of messages")
    messages = tuple(_message(item, f"{key}[{n}]", where) for n, item in enumerate(value))
    return tuple(m for m in messages if m.role != "system" or m.content.strip())


def _message(item: Any, key: str, where: str) -> Message:
    keys = ("role", "content") if isinstance(item, dict) and "role" in item else ("from", "value")
    if not isinstance(item, dict) or any(k not in item for k in keys):
        found = (
            f"the keys {', '.join(map(str, item))}" if isinstance(item, dict) else type_name(item)
        )
        raise DataError(
            f"{where}: {key} must have role and content (or from and value), not {found}"
        )
    role = ROLES.get(valid_text(item[keys[0]], f"{key}.{keys[0]}", where).strip().lower())
    if role is None:
        raise Unusable(OTHER_ROLE)
    return Message(role, valid_text(item[keys[1]], f"{key}.{keys[1]}", where))


def is_transcript(value: object) -> bool:
    """Tell whether this is text like `\\n\\nHuman: ...\\n\\nAssistant: ...` (Bai et al. 2022)."""
    return isinstance(value, str) and bool(re.match(r"\s*Human:.*\n\nAssistant:", value, re.DOTALL))


def transcript(text: str) -> Messages:
    """Read a Human/Assistant transcript; successive turns of one speaker become one."""
    parts = TURN.split(text.strip())
    if parts[0] or len(parts) < 3 or parts[1] != "Human":
        raise Unusable(NOT_TRANSCRIPT)
    messages: list[Message] = []
    for speaker, said in zip(parts[1::2], parts[2::2], strict=True):
        role = "user" if speaker == "Human" else "assistant"
        if messages and messages[-1].role == role:
            said = f"{messages.pop().content}\n\n{said.strip()}".strip()
        messages.append(Message(role, said.strip()))
    return tuple(messages)


def prompt_messages(value: object, key: str, where: str) -> Messages:
    """Read a prompt: a list of messages, a transcript up to `Assistant:`, or one user's text."""
    if isinstance(value, list):
        return chat(value, key, where)
    text = valid_text(value, key, where)
    if not is_transcript(text):
        return (Message("user", text),)
    messages = transcript(text)
    return messages[:-1] if messages[-1] == Message("assistant", "") else messages


def answer_messages(value: object, key: str, where: str) -> Messages:
    """Read an answer: text, or a list of messages."""
    if isinstance(value, list):
        return chat(value, key, where)
    return (Message("assistant", valid_text(value, key, where)),)
