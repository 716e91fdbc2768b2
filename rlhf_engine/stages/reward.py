"""A reward model from preference pairs (Bradley-Terry)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlhf_engine.checkpoint import State
from rlhf_engine.data.batches import batch_indices, pad_right
from rlhf_engine.data.sources import Row
from rlhf_engine.data.tokens import Encoded
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.spec import RewardSpec
from rlhf_engine.model.export import write_adapter
from rlhf_engine.optimizer import AdapterOptimizer, schedule_factor
from rlhf_engine.rl.losses import reward_loss
from rlhf_engine.runs.reader import SampleRow
from rlhf_engine.runs.sample import Sample
from rlhf_engine.scoring import micro_batches
from rlhf_engine.stages.build import due, load_roles, step_count
from rlhf_engine.stages.pairs import encoded_pairs
from rlhf_engine.stages.rows import read_split
from rlhf_engine.stages.stage import StepRecord, Workplace

EncodedPair = tuple[Encoded, Encoded]


class RewardStage:
    """Trains a reward adapter with a scalar head on the last token."""

    def __init__(self, spec: RewardSpec, place: Workplace) -> None:
        self._spec = spec
        self._place = place
        self._roles = load_roles(spec, place, "reward", spec.lora)
        self.base = self._roles.base.name
        if "reward" not in self._roles.heads:
            self._roles.add_head("reward")
        self._roles.freeze("reward")
        train, held_out = read_split(spec.data, place.home, spec.seed, place.report)
        self._train = self._encode(train, "training pairs")
        self._held_out = self._encode(held_out, "held-out pairs")
        self.held_out = len(self._held_out)
        self._optimizer = AdapterOptimizer(
            spec.reward.optimizer, [self._roles.trained("reward")], place.ranks
        )
        self.total_steps = step_count(spec.reward.batches, len(self._train))

    def _encode(self, rows: list[Row], what: str) -> list[EncodedPair]:
        encoded = encoded_pairs(rows, self._spec.data, self._roles, self._place, what)
        return [(chosen, rejected) for _, chosen, rejected in encoded]

    def step(self, step: int, knobs: Mapping[str, float]) -> StepRecord:
        batches = self._spec.reward.batches
        rows = batch_indices(step, batches.batch_size, len(self._train), self._spec.seed)
        with self._optimizer.accumulating():
            metrics = self._pass([self._train[row] for row in rows], train=True)
        lr = knobs["lr"] * schedule_factor(self._spec.reward.optimizer, step, self.total_steps)
        metrics["grad_norm"] = self._optimizer.update(lr, knobs["max_grad_norm"])
        metrics["lr"] = lr
        if self._held_out and due(batches.eval_every, step, self.total_steps):
            metrics |= self.evaluate(knobs).metrics
        return StepRecord(metrics)

    def evaluate(self, knobs: Mapping[str, float]) -> StepRecord:
        with self._place.report.atomic():
            found = self._place.sizes.fit(lambda: self._pass(self._held_out, train=False))
        return StepRecord({f"eval_{name}": value for name, value in found.items()})

    def ask(self, prompt: str, draw: str, knobs: Mapping[str, float]) -> list[Sample]:
        raise SpecError("a reward run trains a judge: it has no policy to answer; ask a PPO run")

    def _pass(self, batch: Sequence[EncodedPair], *, train: bool) -> dict[str, float]:
        """Mean loss, accuracy (ties are wrong) and margin of a batch of pairs."""
        reward = self._spec.reward
        lengths = [max(len(chosen.ids), len(rejected.ids)) for chosen, rejected in batch]
        loss = correct = margin = 0.0
        phase = self._place.report.phase("train" if train else "evaluate", len(batch), "pairs")
        with phase as progress, torch.set_grad_enabled(train):
            ranks = self._place.ranks
            size = ranks.rows_at_once(self._place.sizes.micro_batch, len(batch))
            groups = list(micro_batches(lengths, range(len(batch)), size))
            for done, rows in enumerate(ranks.share(groups)):
                chosen, rejected = self._scores([batch[row] for row in rows])
                part = reward_loss(
                    chosen, rejected, centre_coef=reward.centre_coef, denominator=len(batch)
                )
                if train:
                    part.loss.backward()
                loss += float(part.loss.detach())
                correct += float(part.correct)
                margin += float(part.margin)
                progress(min(len(batch), (done + 1) * size * ranks.size))
        loss, correct, margin = ranks.sums([loss, correct, margin])
        return {"loss": loss, "accuracy": correct / len(batch), "margin": margin / len(batch)}

    def _scores(self, batch: Sequence[EncodedPair]) -> tuple[Tensor, Tensor]:
        """Scores of the chosen and of the rejected sides, in one forward pass."""
        sides = [chosen for chosen, _ in batch] + [rejected for _, rejected in batch]
        ids, mask = pad_right([side.ids for side in sides], self._roles.base.pad_id)
        last = (mask.sum(-1) - 1).to(self._roles.device)
        hidden = self._roles.hidden("reward", ids.to(self._roles.device))
        rows = torch.arange(len(sides), device=self._roles.device)
        chosen, rejected = self._roles.scalar("reward", hidden[rows, last]).chunk(2)
        return chosen, rejected

    def state(self) -> State:
        return State({"reward": self._roles.state("reward"), "optimizer": self._optimizer.state()})

    def load_state(self, state: State) -> None:
        self._roles.load_state("reward", state.tensors["reward"])
        self._optimizer.load_state(state.tensors["optimizer"])

    def finish(self, folder: Path, samples: Sequence[SampleRow]) -> dict[str, Any]:
        write_adapter(self._roles, "reward", folder)
        return {}
