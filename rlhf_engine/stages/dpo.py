"""Direct preference optimisation: a policy from pairs, near the reference that it starts from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf_engine.checkpoint import State
from rlhf_engine.data.batches import batch_indices
from rlhf_engine.data.formats import Pair, prompt_key
from rlhf_engine.data.sources import Row
from rlhf_engine.data.tokens import Encoded
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.spec import DpoSpec
from rlhf_engine.model.export import write_adapter
from rlhf_engine.model.roles import Role
from rlhf_engine.optimizer import AdapterOptimizer, schedule_factor
from rlhf_engine.rl.preference import PREFERENCE_LOSSES, Side, pair_figures
from rlhf_engine.runs.reader import SampleRow
from rlhf_engine.runs.sample import Sample
from rlhf_engine.scoring import Pack, hidden_states, micro_batches, pack, response_logprobs
from rlhf_engine.stages.asking import Question
from rlhf_engine.stages.build import (
    ROUNDING,
    add_reference,
    due,
    load_roles,
    prompt_text,
    step_count,
)
from rlhf_engine.stages.own_answers import OwnAnswers
from rlhf_engine.stages.own_prompt import OwnPrompts
from rlhf_engine.stages.pairs import encoded_pairs
from rlhf_engine.stages.rows import read_split
from rlhf_engine.stages.stage import StepRecord, Warn, Workplace


@dataclass(frozen=True)
class Preference:
    """A question and the tokens of two answers to it, the preferred one first."""

    question: Question
    chosen: list[int]
    rejected: list[int]

    @classmethod
    def of(cls, pair: Pair, chosen: Encoded, rejected: Encoded) -> "Preference":
        """Take the prompt, which both sides share, off their tokens."""
        start = len(chosen.ids) - sum(chosen.loss_mask)
        question = Question(prompt_key(pair.prompt), prompt_text(pair.prompt), chosen.ids[:start])
        return cls(question, chosen.ids[start:], rejected.ids[start:])

    @property
    def tokens(self) -> int:
        """Tokens of the longer side with its prompt."""
        return len(self.question.ids) + max(len(self.chosen), len(self.rejected))


class DpoStage:
    """Trains a policy adapter on preference pairs, without a reward model or rollouts."""

    def __init__(self, spec: DpoSpec, place: Workplace) -> None:
        self._spec = spec
        self._dpo = spec.dpo
        self._place = place
        self._roles = load_roles(spec, place, "policy", spec.lora)
        self.base = self._roles.base.name
        add_reference(self._roles)
        self._roles.freeze("policy")
        train, held_out = read_split(spec.data, place.home, spec.seed, place.report)
        self._train = self._read(train, "training pairs")
        self._held_out = self._read(held_out, "held-out pairs")
        self._answers = OwnAnswers(self._roles, self._dpo.sampling, spec.seed, place)
        self._own_prompts = OwnPrompts(self._roles, spec.data, self._dpo.sampling, spec.seed, place)
        self.held_out = len(self._held_out)
        self._optimizer = AdapterOptimizer(
            self._dpo.optimizer, [self._roles.trained("policy")], place.ranks
        )
        self.total_steps = step_count(self._dpo.batches, len(self._train))

    def _read(self, rows: list[Row], what: str) -> list[Preference]:
        """Pairs that still differ within the limits of tokens."""
        encoded = encoded_pairs(rows, self._spec.data, self._roles, self._place, what)
        found = [Preference.of(*item) for item in encoded]
        kept = [p for p in found if p.chosen and p.rejected and p.chosen != p.rejected]
        if len(kept) < len(found):
            lost = len(found) - len(kept)
            self._place.report.say(f"{what}: {lost} left out: no difference within data.max_tokens")
        if found and not kept:
            raise SpecError(f"{what}: no two answers differ within data.max_tokens; raise it")
        return kept

    def step(self, step: int, knobs: Mapping[str, float]) -> StepRecord:
        batches = self._dpo.batches
        rows = batch_indices(step, batches.batch_size, len(self._train), self._spec.seed)
        batch = [self._train[row] for row in rows]
        # From the first step on, which shows KL 0.
        own = step == self.total_steps or (step - 1) % self._dpo.sample_every == 0
        metrics, samples = self._ask("train", batch, step, knobs) if own else ({}, [])

        with self._optimizer.accumulating():
            figures = self._pass(batch, knobs, train=True)
        lr = knobs["lr"] * schedule_factor(self._dpo.optimizer, step, self.total_steps)
        norm = self._optimizer.update(lr, knobs["max_grad_norm"])
        metrics = _means(figures) | {"grad_norm": norm, "lr": lr} | metrics
        if self._held_out and due(batches.eval_every, step, self.total_steps):
            found = self.evaluate(knobs)
            metrics |= found.metrics
            samples += found.samples
        return StepRecord(metrics, samples, self._check_start(step, figures))

    def _ask(
        self, kind: str, pairs: Sequence[Preference], draw: int, knobs: Mapping[str, float]
    ) -> tuple[dict[str, float], list[Sample]]:
        """KL and answers of the policy to the first prompts of these pairs."""
        distinct = list({pair.question.key: pair.question for pair in pairs}.values())
        asked = distinct[: self._dpo.sample_prompts]
        return self._answers.ask(kind, asked, draw, knobs["temperature"]) if asked else ({}, [])

    def ask(self, prompt: str, draw: str, knobs: Mapping[str, float]) -> list[Sample]:
        asked = self._own_prompts.ask(prompt, draw, knobs["temperature"])
        return [sample for _, sample in asked]

    def evaluate(self, knobs: Mapping[str, float]) -> StepRecord:
        """Held-out pairs, and answers to their first prompts with the same draws each time."""
        with self._place.report.atomic():
            fit = self._place.sizes.fit
            figures = fit(lambda: self._pass(self._held_out, knobs, train=False))
            metrics, samples = fit(lambda: self._ask("eval", self._held_out, 0, knobs))
        held_out = _means(figures) | metrics
        return StepRecord({f"eval_{name}": value for name, value in held_out.items()}, samples)

    def _pass(
        self, batch: Sequence[Preference], knobs: Mapping[str, float], *, train: bool
    ) -> dict[str, Tensor]:
        """Figures of every pair, with the gradients of their mean loss if it trains. (N,) each."""
        loss_of, ranks = PREFERENCE_LOSSES[self._dpo.loss], self._place.ranks
        parts = []
        phase = self._place.report.phase("train" if train else "evaluate", len(batch), "pairs")
        with phase as progress, torch.set_grad_enabled(train):
            lengths = [pair.tokens for pair in batch]
            size = ranks.rows_at_once(self._place.sizes.micro_batch, len(batch))
            groups = list(micro_batches(lengths, range(len(batch)), size))
            for done, rows in enumerate(ranks.share(groups)):
                sides = self._sides([batch[row] for row in rows], knobs["temperature"])
                losses = loss_of(*sides, knobs["beta"])
                if train:
                    (losses.sum() / len(batch)).backward()
                found = {"loss": losses.detach(), **pair_figures(*sides, knobs["beta"])}
                parts.append({name: values.cpu() for name, values in found.items()})
                progress(min(len(batch), (done + 1) * size * ranks.size))
        parts = ranks.gather(parts, len(groups))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _sides(self, pairs: Sequence[Preference], temperature: float) -> tuple[Side, Side]:
        """Chosen and rejected in one forward pass under the policy, and one under the reference."""
        prompts = [pair.question.ids for pair in pairs] * 2
        responses = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        rows = list(range(len(responses)))
        # Log-probs depend on the shape of a block by rounding: both roles read the same block.
        block = pack(prompts, responses, rows, self._roles.base.pad_id, self._roles.device)
        with torch.no_grad():
            ref_logp = self._logps("reference", block, responses, temperature)
        logp = self._logps("policy", block, responses, temperature)
        tokens = torch.tensor([len(response) for response in responses], device=logp.device)
        halves = (part.chunk(2) for part in (logp, ref_logp, tokens))
        chosen, rejected = (Side(*parts) for parts in zip(*halves, strict=True))
        return chosen, rejected

    def _logps(
        self, role: Role, block: Pack, responses: Sequence[list[int]], temperature: float
    ) -> Tensor:
        """Log-prob of each response under a role, summed over its tokens. (b,)."""
        hidden = hidden_states(self._roles, role, block)
        logp = response_logprobs(self._roles, hidden, block, temperature).logp
        parts = logp.split([len(response) for response in responses])
        return torch.stack([part.sum() for part in parts])

    def _check_start(self, step: int, figures: Mapping[str, Tensor]) -> list[Warn]:
        """Before the first update policy and reference are one: every reward must be 0."""
        if step > 1:
            return []
        rewards = torch.cat([figures["chosen_reward"], figures["rejected_reward"]])
        largest, allowed = float(rewards.abs().max()), ROUNDING[self._spec.model.dtype]
        if largest <= allowed:
            return []
        text = (
            f"step 1: implicit rewards up to {largest:.2g} before any update, allowed {allowed:g}; "
            "log-probs of policy and reference do not agree"
        )
        return [Warn("reference", text)]

    def state(self) -> State:
        return State({"policy": self._roles.state("policy"), "optimizer": self._optimizer.state()})

    def load_state(self, state: State) -> None:
        self._roles.load_state("policy", state.tensors["policy"])
        self._optimizer.load_state(state.tensors["optimizer"])

    def finish(self, folder: Path, samples: Sequence[SampleRow]) -> dict[str, Any]:
        write_adapter(self._roles, "policy", folder)
        return {}


def _means(figures: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(values.double().mean()) for name, values in figures.items()}
