"""Conversations as text and its tokens, and where in the text the answers lie."""

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import TemplateError

from rlhf_engine.data.errors import DataError
from rlhf_engine.data.messages import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Qwen3, SmolLM3 and their kin otherwise open every answer with a chain of thought that the data
# does not hold; templates without the switch ignore it.
DIRECT_ANSWER: dict[str, Any] = {"enable_thinking": False}


class Tokens(NamedTuple):
    """Tokens of a text."""

    ids: list[int]
    spans: list[tuple[int, int]]
    """Characters [start, end) of the text that each token stands for."""


class Answer(NamedTuple):
    """Characters [start, end) of what the model writes as its answer, without the end token."""

    start: int
    end: int


def render_prompt(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message]) -> str:
    """Text after which the model writes its answer: the chat template with its generation prompt.

    A tokenizer without a template gets `role: content` paragraphs, an end-of-sequence token after
    each answer, and `assistant:` last.
    """
    return _render(tokenizer, messages, answer_next=True, **DIRECT_ANSWER)


def render_conversation(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message]) -> str:
    """Text of a whole conversation, in the manner of `render_prompt`."""
    return _render(tokenizer, messages, answer_next=False, **DIRECT_ANSWER)


def _render(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    *,
    answer_next: bool,
    **flags: Any,
) -> str:
    if tokenizer.chat_template is None:
        end = {"assistant": tokenizer.eos_token or ""}
        turns = [f"{m.role}: {m.content}{end.get(m.role, '')}" for m in messages]
        return "\n\n".join([*turns, "assistant:"] if answer_next else turns)
    try:
        text = tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in messages],
            tokenize=False,
            add_generation_prompt=answer_next,
            **flags,
        )
    except (TemplateError, TypeError, ValueError) as error:
        roles = ", ".join(m.role for m in messages)
        raise DataError(
            f"the chat template refuses a conversation of {roles} ({error}). "
            "Remove the row or the system message, or use a tokenizer with another template"
        ) from None
    return str(text)


def tokenise(tokenizer: "PreTrainedTokenizerBase", text: str) -> Tokens:
    """Tokens of rendered text; BOS comes from the template, or without one as for plain text."""
    tokens = _plain(tokenizer, text)
    if tokenizer.chat_template is None and _adds_bos(tokenizer):
        return Tokens([tokenizer.bos_token_id, *tokens.ids], [(0, 0), *tokens.spans])
    return tokens


def tokenise_answered(
    tokenizer: "PreTrainedTokenizerBase", text: str, start: int
) -> tuple[Tokens, int]:
    """Tokens of text whose last answer begins at `start`, and how many of them come before it.

    Those before it are the tokens of the prompt alone, after which the model samples: a merge
    across the boundary would train on a context that sampling never shows.
    """
    prompt, whole = tokenise(tokenizer, text[:start]), tokenise(tokenizer, text)
    before = len(prompt.ids)
    if whole.ids[:before] == prompt.ids:
        return whole, before
    answer = _plain(tokenizer, text[start:])
    spans = [(first + start, last + start) for first, last in answer.spans]
    return Tokens(prompt.ids + answer.ids, prompt.spans + spans), before


def _plain(tokenizer: "PreTrainedTokenizerBase", text: str) -> Tokens:
    if not tokenizer.is_fast:
        raise DataError(
            f"{type(tokenizer).__name__} cannot tell which characters a token stands for. "
            "Use a model with a fast tokenizer (a tokenizer.json)"
        )
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return Tokens(list(encoded["input_ids"]), list(encoded["offset_mapping"]))


def _adds_bos(tokenizer: "PreTrainedTokenizerBase") -> bool:
    first = tokenizer("")["input_ids"][:1]
    return tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]


def find_answer(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], turn: int, text: str
) -> Answer:
    """Find an answer in the whole text, right after the text that asks the model for it."""
    said = messages[turn].content.strip()
    # A template may add a thinking block to the request that it leaves out of the history.
    for flags in (DIRECT_ANSWER, {}):
        lead = _render(tokenizer, messages[:turn], answer_next=True, **flags)
        start = len(lead) if text.startswith(lead) else _common(lead, text)
        if start < len(lead):
            history = _render(tokenizer, messages[:turn], answer_next=False, **flags)
            if not text.startswith(history) or start < len(history):
                continue
        body = start + len(text[start:]) - len(text[start:].lstrip())
        if text.startswith(said, body):
            return Answer(start, body + len(said))
    raise DataError(
        f"the chat template rewrites message {turn + 1} or those before it, so its tokens "
        "cannot be told apart. Remove the row, or use a tokenizer with another template"
    )


def _common(first: str, second: str) -> int:
    """Length of the common beginning."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return sum(1 for _ in same)
