"""Prompt and answers of one row, whatever its format."""

from rlhf_engine.data.errors import DataError
from rlhf_engine.data.fields import EMPTY, Fields
from rlhf_engine.data.messages import (
    Messages,
    Unusable,
    answer_messages,
    chat,
    prompt_messages,
    transcript,
    valid_text,
)
from rlhf_engine.job.sections import Format

IDENTICAL = "chosen equals rejected"
UNANSWERED = "the last message is not from the assistant"
NO_QUESTION = "the prompt does not end with a user message"
OTHER_PROMPTS = "chosen and rejected answer different prompts"


def conversation(row: Fields, format: Format) -> Messages:
    """Messages that end with the answer to imitate; of a pair, the chosen one."""
    if format == "prompts":
        raise DataError(
            f"{row.where}: prompts hold no answers to imitate. "
            "Use data with answers, or set `format`"
        )
    if format == "chat":
        messages = chat(*row.need("messages"))
    elif format == "prompt_completion":
        messages = _question(row) + answer_messages(*row.need("completion"))
    else:
        messages = _side(row, format, "chosen")
    _need_answer(messages, "chosen" if format in ("hh", "pairs") else "completion")
    return _need_question(messages[:-1]) + messages[-1:]


def prompt(row: Fields, format: Format) -> Messages:
    """Messages up to the user turn that is to be answered."""
    if format == "chat":
        messages = chat(*row.need("messages"))
        answered = messages[-1:] and messages[-1].role == "assistant"
        return _need_question(messages[:-1] if answered else messages)
    if format == "hh" or (format == "pairs" and isinstance(row.need("chosen")[0], list)):
        return _shared_prompt(*_sides(row, format))
    return _need_question(_question(row))


def pair(row: Fields, format: Format) -> tuple[Messages, str, str]:
    """Prompt, chosen answer and rejected answer."""
    chosen, rejected = _sides(row, format)
    _need_answer(chosen, "chosen")
    _need_answer(rejected, "rejected")
    prompt = _shared_prompt(chosen, rejected)
    turns = len(prompt) + 1
    _need_answer(chosen[:turns], "chosen")
    _need_answer(rejected[:turns], "rejected")
    first, second = chosen[turns - 1].content, rejected[turns - 1].content
    if first.strip() == second.strip():
        raise Unusable(IDENTICAL if turns == len(chosen) == len(rejected) else OTHER_PROMPTS)
    return prompt, first, second


def _question(row: Fields) -> Messages:
    """Prompt of the row; Alpaca's `input` belongs to its `instruction`."""
    if not row.column("prompt") and row.column("text"):
        return prompt_messages(*row.need("text"))
    value, name, where = row.need("prompt")
    extra = row.values.get("input")
    if name == "instruction" and isinstance(extra, str) and extra.strip():
        value = f"{valid_text(value, name, where)}\n\n{valid_text(extra, 'input', where)}"
    return prompt_messages(value, name, where)


def _sides(row: Fields, format: Format) -> tuple[Messages, Messages]:
    if format not in ("hh", "pairs"):
        raise DataError(
            f"{row.where}: {format} rows hold one answer, not two. "
            "Use data with 'chosen' and 'rejected'"
        )
    return _side(row, format, "chosen"), _side(row, format, "rejected")


def _side(row: Fields, format: Format, which: str) -> Messages:
    """Whole conversation of one side; a list that has a user turn is taken to be whole already."""
    value, name, where = row.need(which)
    if format == "hh":
        return transcript(valid_text(value, name, where))
    answer = answer_messages(value, name, where)
    return answer if any(m.role == "user" for m in answer) else _question(row) + answer


def _shared_prompt(chosen: Messages, rejected: Messages) -> Messages:
    """Turns before the last, or where they differ the common ones up to the last user turn."""
    if chosen[:-1] == rejected[:-1]:
        return _need_question(chosen[:-1])
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
    while same and chosen[same - 1].role != "user":
        same -= 1
    if not same or same in (len(chosen), len(rejected)):
        raise Unusable(OTHER_PROMPTS)
    return _need_question(chosen[:same])


def _need_answer(messages: Messages, field: str) -> None:
    if not messages or messages[-1].role != "assistant":
        raise Unusable(UNANSWERED)
    if not messages[-1].content.strip():
        raise Unusable(EMPTY[field])


def _need_question(messages: Messages) -> Messages:
    if not messages or messages[-1].role != "user":
        raise Unusable(NO_QUESTION)
    if not messages[-1].content.strip():
        raise Unusable(EMPTY["prompt"])
    return messages
