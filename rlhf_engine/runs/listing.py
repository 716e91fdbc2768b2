"""Pages of a run's samples in any order, without reading them all."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.schema import SHOWN

Order = Literal["newest", "score", "kl", "net_reward", "length"]
ORDERS: tuple[Order, ...] = get_args(Order)
KEYS: dict[Order, str] = {
    "newest": "seq",
    "score": "score",
    "kl": "kl",
    "net_reward": "net_reward",
    "length": "length(tokens)",
}
# A line needs no more of a text than a wide terminal shows.
CLIP = 240
COLUMNS = (
    f"seq, step, kind, prompt_id, substr(prompt, 1, {CLIP}), substr(response, 1, {CLIP}),"
    " score, gold, kl, net_reward, length(tokens) / 4"
)


@dataclass(frozen=True)
class SampleLine:
    """A sample as a list shows it; long texts are cut, `length` is in tokens."""

    seq: int
    step: int
    kind: str
    prompt_id: str
    prompt: str
    response: str
    score: float | None
    gold: float | None
    kl: float | None
    net_reward: float | None
    length: int


@dataclass(frozen=True)
class Selection:
    """Which samples, and in which order: the largest first, or the smallest if `reverse`.

    Samples without the figure that they are ordered by come last. Empty fields select everything;
    `text` stands in the prompt or the response.
    """

    order: Order = "newest"
    reverse: bool = False
    kind: str = ""
    text: str = ""
    prompt_id: str = ""

    def count(self, reader: StoreReader) -> int:
        """How many there are."""
        return int(self._rows(reader, "count(*)", "")[0][0])

    def lines(self, reader: StoreReader, start: int, limit: int) -> list[SampleLine]:
        """Some of them in order, from number `start` (counted from 0) on."""
        way = "ASC" if self.reverse else "DESC"
        rest = f"ORDER BY {KEYS[self.order]} {way} NULLS LAST, seq {way} LIMIT :limit OFFSET :start"
        rows = self._rows(reader, COLUMNS, rest, limit=limit, start=max(0, start))
        return [SampleLine(*row) for row in rows]

    def place(self, reader: StoreReader, seq: int) -> int | None:
        """The number of a sample among them, None if it is not one of them."""
        key = KEYS[self.order]
        found = self._rows(reader, key, "AND seq = :seq", seq=seq)
        if not found:
            return None
        beyond = "<" if self.reverse else ">"
        before = f"AND ({key} {beyond} :key OR ({key} = :key AND seq {beyond} :seq))"
        if found[0][0] is None:
            before = f"AND ({key} IS NOT NULL OR seq {beyond} :seq)"
        return int(self._rows(reader, "count(*)", before, key=found[0][0], seq=seq)[0][0])

    def at_step(self, reader: StoreReader, step: int) -> int | None:
        """The first sample of a step, or of the nearest one before it, else after it."""
        for side, way in (("<=", "DESC"), (">", "ASC")):
            rest = f"AND step {side} :step ORDER BY step {way}, seq LIMIT 1"
            if rows := self._rows(reader, "seq", rest, step=step):
                return int(rows[0][0])
        return None

    def _rows(self, reader: StoreReader, columns: str, rest: str, **values: Any) -> list[Any]:
        where = SHOWN
        for wanted, rule in (
            (self.kind, "kind = :kind"),
            (self.prompt_id, "prompt_id = :prompt"),
            (self.text, "(prompt LIKE :text ESCAPE '\\' OR response LIKE :text ESCAPE '\\')"),
        ):
            if wanted:
                where += f" AND {rule}"
        values |= {"kind": self.kind, "prompt": self.prompt_id, "text": f"%{_escaped(self.text)}%"}
        return reader.rows(f"SELECT {columns} FROM samples WHERE {where} {rest}", values)


def _escaped(text: str) -> str:
    for sign in "\\%_":
        text = text.replace(sign, f"\\{sign}")
    return text
