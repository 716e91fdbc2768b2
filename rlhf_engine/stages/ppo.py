"""PPO against a score: rollout, score, rewards, advantages, update, record."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf_engine.checkpoint import State
from rlhf_engine.data.batches import batch_indices
from rlhf_engine.job.spec import PpoSpec
from rlhf_engine.model.export import write_adapter
from rlhf_engine.optimizer import AdapterOptimizer, schedule_factor
from rlhf_engine.rewards import make_judges
from rlhf_engine.rl.advantages import explained_variance
from rlhf_engine.rl.controllers import adaptive_coef
from rlhf_engine.rl.masked import masked_mean
from rlhf_engine.rl.rewards import apply_missing_eos
from rlhf_engine.runs.reader import SampleRow
from rlhf_engine.runs.sample import Sample
from rlhf_engine.seeding import noise
from rlhf_engine.stages.asking import Answer, Question, Respondent, questions, token_pieces
from rlhf_engine.stages.build import ROUNDING, add_reference_and_value, due, load_roles
from rlhf_engine.stages.own_prompt import OwnPrompts
from rlhf_engine.stages.ppo_batch import Blocks, Figures, Targets, aim, measure
from rlhf_engine.stages.ppo_ptx import Conversations
from rlhf_engine.stages.ppo_update import Updater
from rlhf_engine.stages.rows import read_split
from rlhf_engine.stages.score_scale import ScoreScale, deviation
from rlhf_engine.stages.stage import StepRecord, Warn, Workplace


class PpoStage:
    """Trains a policy adapter, and a value role beside it, near a frozen reference."""

    def __init__(self, spec: PpoSpec, place: Workplace) -> None:
        self._spec = spec
        self._ppo = spec.ppo
        self._place = place
        self._roles = load_roles(spec, place, "policy", spec.lora)
        self.base = self._roles.base.name
        train, held_out = read_split(spec.data, place.home, spec.seed, place.report)
        self._questions = questions(train, spec.data, self._roles, place, "prompts")
        self._held_out = questions(held_out, spec.data, self._roles, place, "held-out prompts")
        self._respondent = Respondent(self._roles, self._ppo.sampling, place)
        self._own_prompts = OwnPrompts(self._roles, spec.data, self._ppo.sampling, spec.seed, place)
        self.held_out = len(self._held_out)
        self._judges = make_judges(
            spec.reward, self._roles, place.home, place.sizes, place.ranks, place.report.say
        )
        self._value_role = add_reference_and_value(spec, self._roles)
        trained = [self._roles.trained("policy")]
        if self._value_role is not None:
            trained.append(self._roles.trained("value"))
        self._optimizer = AdapterOptimizer(self._ppo.optimizer, trained, place.ranks)
        ptx = Conversations(spec, self._roles, place) if self._ppo.ptx.data.path else None
        self._updater = Updater(
            self._roles, self._optimizer, self._ppo, self._value_role, place.sizes, place.ranks, ptx
        )
        self._normalised = ScoreScale(self._ppo)
        self.total_steps = self._ppo.steps

    def step(self, step: int, knobs: Mapping[str, float]) -> StepRecord:
        answers = self._rollout(step, knobs)
        raw = self._judge(answers)
        warnings = self._normalised.fix(raw[self._spec.reward.score]) if step == 1 else []
        scores = self._scores(answers, raw)
        blocks = Blocks(
            answers,
            self._ppo,
            self._spec.seed,
            step,
            self._roles,
            self._place.sizes,
            self._place.ranks,
        )
        figures = self._measure(answers, blocks, knobs)
        responses = [answer.response.tokens for answer in answers]
        targets = aim(figures, responses, scores, knobs["kl_coef"], self._ppo)
        metrics = self._metrics(answers, raw, scores, figures, targets, knobs)
        samples = self._samples(answers, raw, scores, figures, targets, knobs)

        lr = knobs["lr"] * schedule_factor(self._ppo.optimizer, step, self.total_steps)
        total = len(answers) * self._ppo.epochs
        with self._place.report.phase("update", total, "responses") as progress:
            stats = self._updater.update(blocks, figures, targets, knobs, lr, progress)
        metrics |= stats.metrics() | {"lr": lr}
        if self._held_out and due(self._ppo.eval_every, step, self.total_steps):
            found = self.evaluate(knobs)
            metrics |= found.metrics
            samples += found.samples
        warnings += self._check_first_ratio(step, stats.first_ratio_error)
        return StepRecord(metrics, samples, warnings, self._steer(metrics, knobs))

    def _rollout(self, step: int, knobs: Mapping[str, float]) -> list[Answer]:
        """Answers to this step's prompts; the group estimators ask each prompt several times."""
        repeat = 1 if self._ppo.advantage == "gae" else self._ppo.group_size
        size = self._ppo.batch_size // repeat
        rows = batch_indices(step, size, len(self._questions), self._spec.seed)
        asked = [self._questions[row] for row in rows for _ in range(repeat)]
        draws = noise(self._spec.seed, "rollout", step, len(asked), self._respondent.longest)
        return self._respondent.answer("policy", asked, draws, knobs["temperature"])

    def evaluate(self, knobs: Mapping[str, float]) -> StepRecord:
        with self._place.report.atomic():
            return self._place.sizes.fit(lambda: self._evaluate(knobs))

    def ask(self, prompt: str, draw: str, knobs: Mapping[str, float]) -> list[Sample]:
        asked = self._own_prompts.ask(prompt, draw, knobs["temperature"])
        answers = [answer for answer, _ in asked]
        raw = self._judge(answers, alone=True)
        scores = self._scores(answers, raw).tolist()
        found = []
        for row, (_, sample) in enumerate(asked):
            told = {source: float(values[row]) for source, values in raw.items()}
            net = None if sample.kl is None else scores[row] - knobs["kl_coef"] * sample.kl
            found.append(
                replace(
                    sample,
                    score=scores[row],
                    gold=self._first_gold(raw, row),
                    net_reward=net,
                    detail=sample.detail | told,
                )
            )
        return found

    def _judge(self, answers: Sequence[Answer], *, alone: bool = False) -> dict[str, Tensor]:
        """Raw scores of the trained-on and the watched rewards. Each (B,).

        `alone` leaves the other processes of the run out of it.
        """
        prompts = [answer.question.text for answer in answers]
        texts = [answer.text for answer in answers]
        responses = [answer.response for answer in answers]
        with self._place.report.phase("judge", len(answers), "responses"):
            return {
                source: torch.tensor(
                    (judge.alone if alone else judge)(prompts, texts, responses),
                    device=self._roles.device,
                )
                for source, judge in self._judges.items()
            }

    def _scores(self, answers: Sequence[Answer], raw: Mapping[str, Tensor]) -> Tensor:
        """What is trained on: the normalised score, less for responses without an end. (B,)."""
        scores = self._normalised(raw[self._spec.reward.score])
        finished = torch.tensor([a.response.finished for a in answers], device=scores.device)
        penalty = self._ppo.missing_eos_penalty
        return apply_missing_eos(scores, finished, self._ppo.missing_eos, penalty)

    def _measure(
        self, answers: Sequence[Answer], blocks: Blocks, knobs: Mapping[str, float]
    ) -> Figures:
        first_epoch = [block for rows in blocks.minibatches(0) for block in blocks.packs(rows)]
        phase = self._place.report.phase("measure", len(answers), "responses")
        with phase as progress:
            temperature = knobs["temperature"]
            return measure(
                self._roles,
                answers,
                first_epoch,
                temperature,
                self._value_role,
                self._place.ranks,
                progress,
            )

    def _metrics(
        self,
        answers: Sequence[Answer],
        raw: Mapping[str, Tensor],
        scores: Tensor,
        figures: Figures,
        targets: Targets,
        knobs: Mapping[str, float],
    ) -> dict[str, float]:
        tokens = sum(len(answer.response.tokens) for answer in answers)
        kl = float(figures.kl.mean())
        score = float(scores.mean())
        spent = self._place.report.seconds["generate"]
        metrics = {
            "score": score,
            "score_std": deviation(scores),
            **self._gold(raw),
            "kl": kl,
            "kl_k3": float(figures.kl_k3.mean()),
            "net_reward": score - knobs["kl_coef"] * kl,
            "entropy": float(masked_mean(figures.entropy, figures.mask)),
            "response_tokens": tokens / len(answers),
            "eos_rate": sum(a.response.finished for a in answers) / len(answers),
            "logp_mismatch": float(
                masked_mean((figures.sampled_logp - figures.logp).abs(), figures.mask)
            ),
            "tokens_per_second": tokens / max(spent, 1e-9),
        }
        if self._value_role is not None:
            found = explained_variance(figures.values, targets.returns, figures.mask)
            metrics["explained_variance"] = float(found)
        return metrics

    def _gold(self, raw: Mapping[str, Tensor], prefix: str = "") -> dict[str, float]:
        """Means of the watched rewards: the first is `gold`, further ones are `gold_2`, ..."""
        names = ["gold", *(f"gold_{n}" for n in range(2, len(self._spec.reward.gold) + 1))]
        return {
            prefix + name: float(raw[source].mean())
            for name, source in zip(names, self._spec.reward.gold, strict=False)
        }

    def _samples(
        self,
        answers: Sequence[Answer],
        raw: Mapping[str, Tensor],
        scores: Tensor,
        figures: Figures,
        targets: Targets,
        knobs: Mapping[str, float],
    ) -> list[Sample]:
        """The first responses of the batch with all figures of their tokens."""
        found = []
        kl = figures.kl
        for row, answer in enumerate(answers[: self._ppo.record_samples]):
            length = len(answer.response.tokens)
            matrices = (figures.logp, figures.ref_logp, figures.values, targets.advantages)
            logp, ref_logp, value, advantage = (m[row, :length].tolist() for m in matrices)
            score, row_kl = float(scores[row]), float(kl[row])
            found.append(
                Sample(
                    kind="train",
                    prompt_id=answer.question.key,
                    prompt=answer.question.text,
                    response=answer.text,
                    finished=answer.response.finished,
                    score=score,
                    gold=self._first_gold(raw, row),
                    kl=row_kl,
                    net_reward=score - knobs["kl_coef"] * row_kl,
                    detail={source: float(values[row]) for source, values in raw.items()},
                    pieces=token_pieces(self._roles, answer.response.tokens),
                    tokens=answer.response.tokens,
                    logp=logp,
                    ref_logp=ref_logp,
                    value=value if self._value_role is not None else (),
                    advantage=advantage,
                )
            )
        return found

    def _first_gold(self, raw: Mapping[str, Tensor], row: int) -> float | None:
        gold = self._spec.reward.gold
        return float(raw[gold[0]][row]) if gold else None

    def _evaluate(self, knobs: Mapping[str, float]) -> StepRecord:
        """Answer every held-out prompt, with the same draws each time."""
        count = len(self._held_out)
        draws = noise(self._spec.seed, "held-out", 0, count, self._respondent.longest)
        asked: Sequence[Question] = self._held_out
        answers = self._respondent.answer("policy", asked, draws, knobs["temperature"])
        raw = self._judge(answers)
        scores = self._scores(answers, raw)
        metrics = {
            "eval_score": float(scores.mean()),
            **self._gold(raw, "eval_"),
            "eval_response_tokens": sum(len(a.response.tokens) for a in answers) / count,
            "eval_eos_rate": sum(a.response.finished for a in answers) / count,
        }
        samples = [
            Sample(
                kind="eval",
                prompt_id=answer.question.key,
                prompt=answer.question.text,
                response=answer.text,
                finished=answer.response.finished,
                score=float(scores[row]),
                gold=self._first_gold(raw, row),
                detail={source: float(values[row]) for source, values in raw.items()},
                tokens=answer.response.tokens,
            )
            for row, answer in enumerate(answers)
        ]
        return StepRecord(metrics, samples)

    def _check_first_ratio(self, step: int, error: float) -> list[Warn]:
        """The first minibatch has trained on nothing yet: its ratios must be 1."""
        allowed = ROUNDING[self._spec.model.dtype]
        if error <= allowed:
            return []
        text = (
            f"step {step}: the first minibatch shows |ratio - 1| up to {error:.2g}, allowed "
            f"{allowed:g}; log-probs before and during the update do not agree"
        )
        return [Warn("ratio", text)]

    def _steer(self, metrics: Mapping[str, float], knobs: Mapping[str, float]) -> dict[str, float]:
        control = self._ppo.kl
        if control.controller == "fixed":
            return {}
        batch = self._ppo.batch_size
        coef = adaptive_coef(
            knobs["kl_coef"], metrics["kl"], knobs["kl_target"], batch, control.horizon
        )
        return {"kl_coef": coef}

    def state(self) -> State:
        tensors = {
            "policy": self._roles.state("policy"),
            "optimizer": self._optimizer.state(),
        }
        if self._value_role is not None:
            tensors["value"] = self._roles.state("value")
        return State(tensors, self._normalised.state())

    def load_state(self, state: State) -> None:
        for role in ("policy", "value"):
            if role in state.tensors:
                self._roles.load_state(role, state.tensors[role])
        self._optimizer.load_state(state.tensors["optimizer"])
        self._normalised.load(state.values)

    def finish(self, folder: Path, samples: Sequence[SampleRow]) -> dict[str, Any]:
        write_adapter(self._roles, "policy", folder)
        return {}
