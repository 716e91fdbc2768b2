"""A look at data before anything trains on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rlhf_engine.data.errors import DataError
from rlhf_engine.data.fields import EMPTY, view
from rlhf_engine.data.formats import (
    Conversation,
    Format,
    Messages,
    Pair,
    Prompt,
    Report,
    conversations,
    detect,
    pairs,
    prompts,
)
from rlhf_engine.data.parts import IDENTICAL
from rlhf_engine.data.sources import Row
from rlhf_engine.data.tokens import (
    Encoded,
    encode_conversation,
    encode_pair,
    encode_prompt,
    render_prompt,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Item = Conversation | Pair | Prompt


class Quantiles(NamedTuple):
    """Lengths by nearest rank."""

    min: int
    median: int
    p90: int
    p99: int
    max: int


@dataclass(frozen=True)
class DataReport:
    """What `inspect` found; `lines` says it to a person."""

    report: Report
    unit: str
    """Unit of the lengths: `tokens`, or `characters` without a tokenizer."""
    lengths: dict[str, Quantiles]
    """By part: `prompt`, and `answer` or `chosen` and `rejected`; the end token counts."""
    truncated: float | None
    """Share of the kept rows that lose tokens to the limits; None without tokenizer or limit."""
    duplicates: int
    """Kept rows that repeat an earlier one."""
    empty: int
    identical: int
    """Pairs whose two sides are the same."""
    example: str
    """The first kept row as the model sees it."""

    def lines(self) -> list[str]:
        """Say it to a person."""
        parts = [
            f"{part}: {q.min:,} to {q.max:,} {self.unit}, "
            f"median {q.median:,}, 90 % {q.p90:,}, 99 % {q.p99:,}"
            for part, q in self.lengths.items()
        ]
        cut = [] if self.truncated is None else [f"{self.truncated:.1%} of the rows are cut"]
        return [*self.report.lines(), *parts, *cut, f"{self.duplicates:,} repeat an earlier row"]


def inspect(
    rows: Sequence[Row],
    format: Format,
    tokenizer: "PreTrainedTokenizerBase | None",
    max_tokens: int | None,
    *,
    max_prompt_tokens: int | None = None,
    system: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> DataReport:
    """Count, measure and show rows as what their format holds: pairs, conversations or prompts."""
    items, report = _read(rows, format, system, columns)
    limits = (max_tokens, max_prompt_tokens)
    if tokenizer is None:
        measured = [_characters(item) for item in items]
    else:
        measured = [_tokens(item, tokenizer) for item in items]
    limited = tokenizer is not None and limits != (None, None)
    return DataReport(
        report=report,
        unit="characters" if tokenizer is None else "tokens",
        lengths={part: _quantiles([m[part] for m in measured]) for part in measured[0]},
        truncated=sum(_is_cut(m, *limits) for m in measured) / len(items) if limited else None,
        duplicates=len(items) - len({_content(item) for item in items}),
        empty=sum(d.count for reason, d in report.dropped.items() if reason in EMPTY.values()),
        identical=report.dropped[IDENTICAL].count if IDENTICAL in report.dropped else 0,
        example=_example(items[0], tokenizer),
    )


def _read(
    rows: Sequence[Row],
    format: Format,
    system: str | None,
    columns: Mapping[str, str] | None,
) -> tuple[Sequence[Item], Report]:
    if format == "auto" and rows:
        format = detect(view(rows[0], columns).values, rows[0].where)
    if format in ("pairs", "hh"):
        return pairs(rows, format, system=system, columns=columns)
    if format == "prompts":
        return prompts(rows, format, system=system, columns=columns)
    return conversations(rows, format, system=system, columns=columns)


def _tokens(item: Item, tokenizer: "PreTrainedTokenizerBase") -> dict[str, int]:
    try:
        if isinstance(item, Prompt):
            return {"prompt": len(encode_prompt(tokenizer, item.messages))}
        if isinstance(item, Conversation):
            prompt, answer = _split(encode_conversation(tokenizer, item.messages))
            return {"prompt": prompt, "answer": answer}
    except DataError as error:
        raise DataError(f"{item.where}: {error}") from None
    (prompt, chosen), (_, rejected) = map(_split, encode_pair(tokenizer, item))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _split(encoded: Encoded) -> tuple[int, int]:
    """Tokens before the last answer, and of it."""
    answer = [*reversed(encoded.loss_mask), 0].index(0)
    return len(encoded.ids) - answer, answer


def _characters(item: Item) -> dict[str, int]:
    if isinstance(item, Pair):
        sides = {"chosen": len(item.chosen), "rejected": len(item.rejected)}
        return {"prompt": _length(item.prompt), **sides}
    if isinstance(item, Prompt):
        return {"prompt": _length(item.messages)}
    return {"prompt": _length(item.messages[:-1]), "answer": len(item.messages[-1].content)}


def _length(messages: Messages) -> int:
    return sum(len(m.content) for m in messages)


def _is_cut(lengths: dict[str, int], max_tokens: int | None, max_prompt_tokens: int | None) -> bool:
    prompt = lengths["prompt"]
    shown = min(prompt, max_prompt_tokens or prompt)
    longest = shown + max((n for part, n in lengths.items() if part != "prompt"), default=0)
    return shown < prompt or (max_tokens is not None and longest > max_tokens)


def _quantiles(lengths: Sequence[int]) -> Quantiles:
    ranked = sorted(lengths)
    return Quantiles(*(ranked[round(q * (len(ranked) - 1))] for q in (0, 0.5, 0.9, 0.99, 1)))


def _content(item: Item) -> tuple[object, ...]:
    if isinstance(item, Pair):
        return item.prompt, item.chosen, item.rejected
    return item.messages


def _example(item: Item, tokenizer: "PreTrainedTokenizerBase | None") -> str:
    if isinstance(item, Pair):
        head = _shown(item.prompt, tokenizer)
        return f"{head}\n[chosen] {item.chosen}\n[rejected] {item.rejected}"
    if isinstance(item, Prompt):
        return _shown(item.messages, tokenizer)
    return f"{_shown(item.messages[:-1], tokenizer)}\n[answer] {item.messages[-1].content}"


def _shown(messages: Messages, tokenizer: "PreTrainedTokenizerBase | None") -> str:
    if tokenizer is not None:
        return render_prompt(tokenizer, messages)
    return "\n\n".join(f"{m.role}: {m.content}" for m in messages)
