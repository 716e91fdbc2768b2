"""A prompt that a person types, answered by the policy of this moment and by its reference."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf_engine.data.formats import prompt_key
from rlhf_engine.data.messages import Message
from rlhf_engine.data.tokens import encode_prompt
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.sections import Data, Sampling
from rlhf_engine.model.roles import Role, Roles
from rlhf_engine.ranks import Ranks
from rlhf_engine.rl.kl import k1
from rlhf_engine.runs.sample import ASKED, Sample
from rlhf_engine.scoring import hidden_states, pack, response_logprobs
from rlhf_engine.seeding import noise
from rlhf_engine.stages.asking import Answer, Question, Respondent, token_pieces
from rlhf_engine.stages.stage import Workplace


class Asked(NamedTuple):
    """An answer, and what is recorded of it."""

    answer: Answer
    sample: Sample


class OwnPrompts:
    """Asks roles a person's prompt; the last of several roles is the reference.

    It samples by itself, with a growing cache and without a merged copy: what the rollouts keep
    on the device stays as it is.
    """

    def __init__(
        self,
        roles: Roles,
        data: Data,
        sampling: Sampling,
        seed: int,
        place: Workplace,
        speakers: Sequence[Role] = ("policy", "reference"),
    ) -> None:
        alone = replace(place, ranks=Ranks())
        frugal = sampling.model_copy(update={"merge": False, "backend": "cached"})
        self._roles = roles
        self._data = data
        self._seed = seed
        self._respondent = Respondent(roles, frugal, alone)
        self._speakers = speakers

    def ask(self, prompt: str, draw: str, temperature: float) -> list[Asked]:
        """One answer a role, all with the same draws, each with its tokens' log-probs.

        Raises SpecError if the prompt is no text or too long.
        """
        question = self._question(prompt)
        draws = noise(self._seed, f"asked {draw}", 0, 1, self._respondent.longest)
        answers = [
            self._respondent.answer(role, [question], draws, temperature)[0]
            for role in self._speakers
        ]
        return [
            Asked(answer, self._sample(role, answer, draw, temperature))
            for role, answer in zip(self._speakers, answers, strict=True)
        ]

    def _question(self, prompt: str) -> Question:
        try:
            prompt.encode("utf-8")
        except UnicodeEncodeError:
            raise SpecError("the prompt is not valid Unicode; type it anew") from None
        system = (Message("system", self._data.system),) if self._data.system else ()
        messages = (*system, Message("user", prompt))
        ids = encode_prompt(self._roles.base.tokenizer, messages)
        most = self._data.max_prompt_tokens
        if len(ids) > most:
            raise SpecError(
                f"the prompt has {len(ids)} tokens, at most {most} fit (data.max_prompt_tokens); "
                "shorten it"
            )
        return Question(prompt_key(messages), prompt, ids)

    def _sample(self, role: Role, answer: Answer, draw: str, temperature: float) -> Sample:
        tokens, reference = answer.response.tokens, self._speakers[-1]
        own = self._speakers[0] if role == reference else role
        logp = self._logp(own, answer, temperature)
        ref_logp, kl = None, None
        if len(self._speakers) > 1:
            ref_logp = self._logp(reference, answer, temperature)
            kl = float(k1(logp, ref_logp).sum()) if role != reference else None
        return Sample(
            kind=ASKED,
            prompt_id=answer.question.key,
            prompt=answer.question.text,
            response=answer.text,
            finished=answer.response.finished,
            kl=kl,
            detail={"policy": role, "command": draw},
            pieces=token_pieces(self._roles, tokens),
            tokens=tokens,
            logp=logp.tolist(),
            ref_logp=() if ref_logp is None else ref_logp.tolist(),
        )

    @torch.no_grad()
    def _logp(self, role: Role, answer: Answer, temperature: float) -> Tensor:
        """Log-prob of each token of an answer under a role. (T,)."""
        given, said = [answer.question.ids], [answer.response.tokens]
        block = pack(given, said, [0], self._roles.base.pad_id, self._roles.device)
        hidden = hidden_states(self._roles, role, block)
        return response_logprobs(self._roles, hidden, block, temperature).logp
