"""Supervised fine-tuning: cross-entropy on what the assistant said."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rlhf_engine.checkpoint import State
from rlhf_engine.data.batches import batch_indices
from rlhf_engine.data.tokens import Encoded
from rlhf_engine.job.sections import Sampling
from rlhf_engine.job.spec import SftSpec
from rlhf_engine.model.base import resolve_source
from rlhf_engine.model.export import write_adapter
from rlhf_engine.optimizer import AdapterOptimizer, schedule_factor
from rlhf_engine.runs.reader import SampleRow
from rlhf_engine.runs.sample import Sample
from rlhf_engine.scoring import micro_batches
from rlhf_engine.stages.build import due, load_roles, step_count
from rlhf_engine.stages.conversations import encoded
from rlhf_engine.stages.masked_tokens import TokenSums, masked_logprobs
from rlhf_engine.stages.own_prompt import OwnPrompts
from rlhf_engine.stages.rows import read_split
from rlhf_engine.stages.stage import StepRecord, Workplace


class SftStage:
    """Trains a policy adapter on conversations."""

    def __init__(self, spec: SftSpec, place: Workplace) -> None:
        self._spec = spec
        self._place = place
        self._roles = load_roles(spec, place, "policy", spec.lora)
        self.base = self._roles.base.name
        self._roles.freeze("policy")
        self._train, self._held_out = self._read()
        self.held_out = len(self._held_out)
        self._own_prompts = OwnPrompts(self._roles, spec.data, Sampling(), spec.seed, place)
        self._optimizer = AdapterOptimizer(
            spec.sft.optimizer, [self._roles.trained("policy")], place.ranks
        )
        self.total_steps = step_count(spec.sft.batches, len(self._train))

    def _read(self) -> tuple[list[Encoded], list[Encoded]]:
        train, held_out = read_split(
            self._spec.data, self._place.home, self._spec.seed, self._place.report
        )
        parts = self._spec.data, self._roles, self._place
        return encoded(train, *parts, "training data"), encoded(held_out, *parts, "held-out data")

    def step(self, step: int, knobs: Mapping[str, float]) -> StepRecord:
        batches = self._spec.sft.batches
        rows = batch_indices(step, batches.batch_size, len(self._train), self._spec.seed)
        batch = [self._train[row] for row in rows]
        with self._optimizer.accumulating():
            sums = self._pass(batch, train=True)
        factor = schedule_factor(self._spec.sft.optimizer, step, self.total_steps)
        norm = self._optimizer.update(knobs["lr"] * factor, knobs["max_grad_norm"])
        metrics = {
            "loss": sums.loss,
            "token_accuracy": sums.accuracy,
            "grad_norm": norm,
            "lr": knobs["lr"] * factor,
            "tokens": sums.tokens,
        }
        if self._held_out and due(batches.eval_every, step, self.total_steps):
            metrics |= self.evaluate(knobs).metrics
        return StepRecord(metrics)

    def evaluate(self, knobs: Mapping[str, float]) -> StepRecord:
        with self._place.report.atomic():
            found = self._place.sizes.fit(lambda: self._pass(self._held_out, train=False))
        return StepRecord({"eval_loss": found.loss, "eval_token_accuracy": found.accuracy})

    def ask(self, prompt: str, draw: str, knobs: Mapping[str, float]) -> list[Sample]:
        self._load_reference()
        asked = self._own_prompts.ask(prompt, draw, Sampling().temperature)
        return [sample for _, sample in asked]

    def _load_reference(self) -> None:
        """Where the policy started from; it costs memory only in runs whose policy is asked."""
        if "policy" in self._roles.fresh or "reference" in self._roles.configs:
            return
        source = resolve_source(self._spec.policy, self._place.home, self._place.report.say)
        if source.adapter is not None:
            self._roles.add_from("reference", source.adapter)
            self._roles.freeze("policy")

    def _pass(self, batch: Sequence[Encoded], *, train: bool) -> TokenSums:
        """Mean loss over all assistant tokens of a batch, with gradients if it trains."""
        lengths = [len(item.ids) for item in batch]
        count = sum(sum(item.loss_mask) for item in batch)
        sums = TokenSums()
        phase = self._place.report.phase("train" if train else "evaluate", len(batch), "rows")
        with phase as progress, torch.set_grad_enabled(train):
            ranks = self._place.ranks
            size = ranks.rows_at_once(self._place.sizes.micro_batch, len(batch))
            groups = list(micro_batches(lengths, range(len(batch)), size))
            for done, rows in enumerate(ranks.share(groups)):
                logp, correct = masked_logprobs(self._roles, [batch[row] for row in rows])
                if train:
                    (-logp.sum() / count).backward()
                sums.add(logp, correct)
                progress(min(len(batch), (done + 1) * size * ranks.size))
        return sums.over(ranks)

    def state(self) -> State:
        return State({"policy": self._roles.state("policy"), "optimizer": self._optimizer.state()})

    def load_state(self, state: State) -> None:
        self._roles.load_state("policy", state.tensors["policy"])
        self._optimizer.load_state(state.tensors["optimizer"])

    def finish(self, folder: Path, samples: Sequence[SampleRow]) -> dict[str, Any]:
        write_adapter(self._roles, "policy", folder)
        return {}
