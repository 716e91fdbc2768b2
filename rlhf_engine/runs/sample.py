"""One response with everything known about its tokens."""

import array
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# The kind of the answers to a person's own prompt.
ASKED = "asked"


@dataclass(frozen=True)
class Sample:
    """A prompt and its response; the sequences hold one entry a response token.

    `kind` is `train`, `eval`, `draft` or `asked`; `pieces` are the token texts, cut so that joined
    they give the response; `detail` holds further scores by name, and of an `asked` sample who
    answered (`policy`) and the id of the `command`. `logp` and `ref_logp` are the trained policy's
    and the reference's, whoever answered.
    """

    kind: str
    prompt_id: str
    prompt: str
    response: str
    finished: bool
    score: float | None = None
    gold: float | None = None
    kl: float | None = None
    net_reward: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    pieces: Sequence[str] = ()
    tokens: Sequence[int] = ()
    logp: Sequence[float] = ()
    ref_logp: Sequence[float] = ()
    value: Sequence[float] = ()
    advantage: Sequence[float] = ()

    def row(self) -> tuple[Any, ...]:
        """The columns of the samples table from `kind` on."""
        blobs = (self.logp, self.ref_logp, self.value, self.advantage)
        return (
            self.kind,
            self.prompt_id,
            printable(self.prompt),
            printable(self.response),
            int(self.finished),
            self.score,
            self.gold,
            self.kl,
            self.net_reward,
            json.dumps(self.detail),
            json.dumps([printable(piece) for piece in self.pieces]),
            array.array("i", self.tokens).tobytes(),
            *(array.array("f", values).tobytes() for values in blobs),
        )

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Sample":
        """The inverse of `row`."""
        kind, prompt_id, prompt, response, finished, score, gold, kl, net_reward = row[:9]
        detail, pieces, tokens, logp, ref_logp, value, advantage = row[9:]
        return cls(
            kind=kind,
            prompt_id=prompt_id,
            prompt=prompt,
            response=response,
            finished=bool(finished),
            score=score,
            gold=gold,
            kl=kl,
            net_reward=net_reward,
            detail=json.loads(detail),
            pieces=json.loads(pieces),
            tokens=_array("i", tokens),
            logp=_array("f", logp),
            ref_logp=_array("f", ref_logp),
            value=_array("f", value),
            advantage=_array("f", advantage),
        )


def _array(code: str, blob: bytes) -> list[Any]:
    values = array.array(code)
    values.frombytes(blob)
    return list(values)


# Text of models and data must never drive a terminal: C0, C1 and the marks that reorder, hide or
# break a line become visible signs; newline and tab stay. So do U+200C and U+200D, which Persian
# and Indic scripts and joined emoji are written with.
_VISIBLE = {code: 0x2400 + code for code in range(32) if code not in (9, 10)}
_VISIBLE |= {127: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
_REORDERING = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_INVISIBLE = (0x00AD, 0x180E, 0x200B, *range(0x2060, 0x2065), *range(0x206A, 0x2070), 0xFEFF)
_BREAKING = (0x2028, 0x2029)
_VISIBLE |= dict.fromkeys([*_REORDERING, *_INVISIBLE], 0x25CC)
_VISIBLE |= dict.fromkeys(_BREAKING, 0x21B5)
# Tags spell ASCII that nobody sees.
_VISIBLE |= dict.fromkeys(range(0xE0000, 0xE0080), 0x25CC)
_VISIBLE |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)


def printable(text: str) -> str:
    """The text with control, escape, reordering and hidden characters as visible signs."""
    return text.translate(_VISIBLE)
