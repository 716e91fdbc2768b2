"""Preference pairs as tokens."""

from rlhf_engine.data.formats import Pair, pairs
from rlhf_engine.data.sources import Row
from rlhf_engine.data.tokens import Encoded, encode_pair
from rlhf_engine.job.sections import Data
from rlhf_engine.model.roles import Roles
from rlhf_engine.stages.rows import tell
from rlhf_engine.stages.stage import Workplace


def encoded_pairs(
    rows: list[Row], data: Data, roles: Roles, place: Workplace, what: str
) -> list[tuple[Pair, Encoded, Encoded]]:
    """Read and tokenise pairs: each with its chosen and its rejected side. No rows give none."""
    if not rows:
        return []
    items, kept = pairs(rows, data.format, system=data.system, columns=data.columns)
    tell(place.report, what, kept)
    found = []
    with place.report.phase("tokenize", len(items), "pairs") as progress:
        for index, item in enumerate(items):
            limits = data.max_tokens, data.max_prompt_tokens
            found.append((item, *encode_pair(roles.base.tokenizer, item, *limits)))
            progress(index + 1)
    return found
