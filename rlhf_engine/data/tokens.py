"""Conversations as token ids, with a mask of what the assistant said."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rlhf_engine.data.errors import DataError
from rlhf_engine.data.formats import Message, Pair
from rlhf_engine.data.rendering import (
    Answer,
    Tokens,
    find_answer,
    render_conversation,
    render_prompt,
    tokenise,
    tokenise_answered,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Encoded", "encode_conversation", "encode_pair", "encode_prompt", "render_prompt"]


@dataclass(frozen=True)
class Encoded:
    """Token ids, and 1 on each token that the assistant said, its end token included."""

    ids: list[int]
    loss_mask: list[int]
    cut: int = 0
    """Tokens left out to keep within the limits."""


def encode_prompt(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    max_tokens: int | None = None,
) -> list[int]:
    """Token ids of the rendered prompt; a longer one loses tokens at its start, save its BOS."""
    ids = tokenise(tokenizer, render_prompt(tokenizer, messages)).ids
    return [ids[i] for i in _kept(tokenizer, ids, max_tokens)]


def encode_conversation(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Sequence[Message],
    max_tokens: int | None = None,
    max_prompt_tokens: int | None = None,
) -> Encoded:
    """Token ids of a conversation that ends with an answer, masked on every answer in it.

    All before the last answer loses tokens at its start beyond `max_prompt_tokens`, as in
    `encode_prompt`; then the whole loses tokens at its end beyond `max_tokens`. An answer that
    was cut has no end token, as a sampled answer that ran out of room has none.
    Raises DataError where the chat template refuses or rewrites the messages.
    """
    text = render_conversation(tokenizer, messages)
    answers = [
        find_answer(tokenizer, messages, turn, text)
        for turn, message in enumerate(messages)
        if turn and message.role == "assistant" and message.content.strip()
    ]
    return _limited(tokenizer, _masked(tokenizer, text, answers), max_tokens, max_prompt_tokens)


def encode_pair(
    tokenizer: "PreTrainedTokenizerBase",
    pair: Pair,
    max_tokens: int | None = None,
    max_prompt_tokens: int | None = None,
) -> tuple[Encoded, Encoded]:
    """Chosen and rejected with their prompt, each up to its end token, masked on that answer alone.

    Both sides have the same prompt tokens; limits act as in `encode_conversation`.
    """

    def side(answer: str) -> Encoded:
        messages = (*pair.prompt, Message("assistant", answer))
        text = render_conversation(tokenizer, messages)
        found = find_answer(tokenizer, messages, len(pair.prompt), text)
        masked = _masked(tokenizer, text, [found])
        return _limited(tokenizer, masked, max_tokens, max_prompt_tokens)

    try:
        return side(pair.chosen), side(pair.rejected)
    except DataError as error:
        raise DataError(f"{pair.where}: {error}") from None


class _Masked(NamedTuple):
    ids: list[int]
    mask: list[int]
    prompt: int
    """Tokens before the last answer."""


def _masked(tokenizer: "PreTrainedTokenizerBase", text: str, answers: Sequence[Answer]) -> _Masked:
    """Mask each answer up to its end token, and end the sequence with the last one's."""
    *earlier, last = answers
    tokens, prompt = tokenise_answered(tokenizer, text, last.start)
    special = _special_ids(tokenizer)
    stop = _end_token(text, tokens, last.end, special)
    if stop is not None:
        ids = tokens.ids[: stop + 1]
    elif tokenizer.eos_token_id is not None:
        ids = [*tokens.ids[: _first_from(tokens, last.end)], tokenizer.eos_token_id]
    else:
        raise DataError("the tokenizer has no end-of-sequence token. Set its eos_token")
    mask = [0] * prompt + [1] * (len(ids) - prompt)
    for answer in earlier:
        first, after = _first_from(tokens, answer.start), _first_from(tokens, answer.end)
        # A template without an end token has the next turn's header here, which is not said.
        end = _end_token(text, tokens, answer.end, special)
        if end is not None and ids[end] == ids[-1]:
            after = end + 1
        mask[first:after] = [1] * (after - first)
    return _Masked(ids, mask, prompt)


def _first_from(tokens: Tokens, place: int) -> int:
    """First token that starts at this character or after it."""
    starts = (i for i, span in enumerate(tokens.spans) if span[0] >= place)
    return next(starts, len(tokens.ids))


def _end_token(text: str, tokens: Tokens, place: int, special: set[int]) -> int | None:
    """The special token that follows `place` with at most white space between."""
    for i in range(_first_from(tokens, place), len(tokens.ids)):
        if tokens.ids[i] in special:
            return i
        if text[slice(*tokens.spans[i])].strip():
            return None
    return None


def _special_ids(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    added = tokenizer.added_tokens_decoder.items()
    return {*tokenizer.all_special_ids, *(i for i, token in added if token.special)}


def _limited(
    tokenizer: "PreTrainedTokenizerBase",
    masked: _Masked,
    max_tokens: int | None,
    max_prompt_tokens: int | None,
) -> Encoded:
    ids, mask, prompt = masked
    kept = [*_kept(tokenizer, ids[:prompt], max_prompt_tokens), *range(prompt, len(ids))]
    kept = kept[:max_tokens]
    return Encoded([ids[i] for i in kept], [mask[i] for i in kept], cut=len(ids) - len(kept))


def _kept(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], limit: int | None) -> list[int]:
    """Places that stay when tokens beyond the limit go from the start; models need their BOS."""
    if limit is None or len(ids) <= limit:
        return list(range(len(ids)))
    bos = [0] if limit > 1 and ids[0] == tokenizer.bos_token_id else []
    return [*bos, *range(len(ids) - limit + len(bos), len(ids))]
