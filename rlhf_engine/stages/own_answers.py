"""What a policy that learns from pairs says itself, and how far that is from its reference."""

from collections.abc import Sequence

from rlhf_engine.job.sections import Sampling
from rlhf_engine.model.roles import Roles
from rlhf_engine.runs.sample import Sample
from rlhf_engine.scoring import micro_batches, pack
from rlhf_engine.seeding import noise
from rlhf_engine.stages.asking import Answer, Question, Respondent, token_pieces
from rlhf_engine.stages.ppo_batch import Figures, measure
from rlhf_engine.stages.stage import Workplace


class OwnAnswers:
    """Asks the policy, and measures KL on its own samples: pairs that others wrote cannot say."""

    def __init__(self, roles: Roles, sampling: Sampling, seed: int, place: Workplace) -> None:
        self._roles = roles
        self._respondent = Respondent(roles, sampling, place)
        self._seed = seed
        self._place = place

    def ask(
        self, kind: str, asked: Sequence[Question], draw: int, temperature: float
    ) -> tuple[dict[str, float], list[Sample]]:
        """One answer a question: means of its figures, and the answers with those of each token.

        `kind` is `train` or `eval`; the same `draw` gives the same random numbers.
        """
        draws = noise(self._seed, f"own-{kind}", draw, len(asked), self._respondent.longest)
        answers = self._respondent.answer("policy", asked, draws, temperature)
        figures = self._measure(answers, temperature)
        count = len(answers)
        means = {
            "kl": float(figures.kl.mean()),
            "kl_k3": float(figures.kl_k3.mean()),
            "response_tokens": sum(len(a.response.tokens) for a in answers) / count,
            "eos_rate": sum(a.response.finished for a in answers) / count,
        }
        return means, self._samples(kind, answers, figures)

    def _measure(self, answers: Sequence[Answer], temperature: float) -> Figures:
        prompts = [answer.question.ids for answer in answers]
        responses = [answer.response.tokens for answer in answers]
        lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
        ranks = self._place.ranks
        size = ranks.rows_at_once(self._place.sizes.micro_batch, len(answers))
        blocks = [
            pack(prompts, responses, rows, self._roles.base.pad_id, self._roles.device)
            for rows in micro_batches(lengths, range(len(answers)), size)
        ]
        with self._place.report.phase("measure", len(answers), "responses") as progress:
            return measure(self._roles, answers, blocks, temperature, None, ranks, progress)

    def _samples(self, kind: str, answers: Sequence[Answer], figures: Figures) -> list[Sample]:
        kl = figures.kl.tolist()
        found = []
        for row, answer in enumerate(answers):
            length = len(answer.response.tokens)
            found.append(
                Sample(
                    kind=kind,
                    prompt_id=answer.question.key,
                    prompt=answer.question.text,
                    response=answer.text,
                    finished=answer.response.finished,
                    kl=kl[row],
                    pieces=token_pieces(self._roles, answer.response.tokens),
                    tokens=answer.response.tokens,
                    logp=figures.logp[row, :length].tolist(),
                    ref_logp=figures.ref_logp[row, :length].tolist(),
                )
            )
        return found
