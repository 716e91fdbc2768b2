"""Conversations as tokens, with a mark on what the assistant said."""

from rlhf_engine.data.formats import conversations
from rlhf_engine.data.sources import Row
from rlhf_engine.data.tokens import Encoded, encode_conversation
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.sections import Data
from rlhf_engine.model.roles import Roles
from rlhf_engine.stages.rows import tell
from rlhf_engine.stages.stage import Workplace


def encoded(
    rows: list[Row], data: Data, roles: Roles, place: Workplace, what: str
) -> list[Encoded]:
    """Tokenise conversations, without those that have no assistant token.

    Raises SpecError if none is left; no rows at all give none.
    """
    if not rows:
        return []
    items, kept = conversations(rows, data.format, system=data.system, columns=data.columns)
    tell(place.report, what, kept)
    found = []
    with place.report.phase("tokenize", len(items), "rows") as progress:
        for index, item in enumerate(items):
            limits = data.max_tokens, data.max_prompt_tokens
            found.append(encode_conversation(roles.base.tokenizer, item.messages, *limits))
            progress(index + 1)
    usable = [item for item in found if any(item.loss_mask)]
    if not usable:
        raise SpecError(f"{what}: no assistant token is left within data.max_tokens")
    return usable
