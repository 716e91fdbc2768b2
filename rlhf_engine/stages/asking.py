"""Prompts of a spec as tokens, and policies that answer them."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from rlhf_engine.data.formats import prompts
from rlhf_engine.data.sources import Row
from rlhf_engine.data.tokens import encode_prompt
from rlhf_engine.fitting import GENERATE
from rlhf_engine.job.sections import Data, Sampling
from rlhf_engine.model.roles import Role, Roles
from rlhf_engine.rollout import Response, make_backend
from rlhf_engine.stages.build import prompt_text
from rlhf_engine.stages.rows import tell
from rlhf_engine.stages.stage import Workplace


@dataclass(frozen=True)
class Question:
    """A prompt: its key, what the person asked, the rendered conversation as tokens."""

    key: str
    text: str
    ids: list[int]


@dataclass(frozen=True)
class Answer:
    """A sampled response with its question and its text without special tokens."""

    question: Question
    response: Response
    text: str


def questions(
    rows: list[Row], data: Data, roles: Roles, place: Workplace, what: str
) -> list[Question]:
    """Read and tokenise prompts."""
    if not rows:
        return []
    items, kept = prompts(rows, data.format, system=data.system, columns=data.columns)
    tell(place.report, what, kept)
    found = []
    with place.report.phase("tokenize", len(items), "prompts") as progress:
        for index, item in enumerate(items):
            ids = encode_prompt(roles.base.tokenizer, item.messages, data.max_prompt_tokens)
            found.append(Question(item.key, prompt_text(item.messages), ids))
            progress(index + 1)
    return found


class Respondent:
    """Answers questions as any role."""

    def __init__(self, roles: Roles, sampling: Sampling, place: Workplace) -> None:
        self._roles = roles
        self._sampling = sampling
        self._place = place
        self._backend = make_backend(roles, sampling)

    @property
    def longest(self) -> int:
        """Most tokens of a response."""
        return self._sampling.max_new_tokens

    def answer(
        self, role: Role, asked: Sequence[Question], noise: Tensor, temperature: float
    ) -> list[Answer]:
        """One answer a question; `noise` (questions, new tokens) decides the draws."""
        ranks = self._place.ranks
        own = ranks.share(range(len(asked)))
        ids = [asked[row].ids for row in own]
        self._backend.batch_size = self._place.sizes.sampling
        with self._place.report.phase(GENERATE, len(own), "responses") as progress:
            sampled: list[Response] = []
            # Of few questions a process may have none.
            if ids:
                sampled = self._backend.sample(
                    role, ids, noise[own], temperature, lambda done, _: progress(done)
                )
        responses = ranks.gather(sampled, len(asked))
        texts = self._roles.base.tokenizer.batch_decode(
            [response.tokens for response in responses], skip_special_tokens=True
        )
        return [Answer(*parts) for parts in zip(asked, responses, texts, strict=True)]


def token_pieces(roles: Roles, tokens: Sequence[int]) -> list[str]:
    """Each token's share of the decoded text; a character of several tokens goes to its last."""
    pieces: list[str] = []
    shown = ""
    for end in range(1, len(tokens) + 1):
        text = str(roles.base.tokenizer.decode(list(tokens[:end]), skip_special_tokens=False))
        whole = "" if text.endswith("\ufffd") and end < len(tokens) else text[len(shown) :]
        pieces.append(whole)
        shown = text if whole else shown
    return pieces
