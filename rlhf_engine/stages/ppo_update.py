"""The clipped update of one rollout batch: epochs over shuffled minibatches."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from rlhf_engine.fitting import Sizes
from rlhf_engine.job.spec import Ppo
from rlhf_engine.model.roles import Roles
from rlhf_engine.optimizer import AdapterOptimizer
from rlhf_engine.ranks import Ranks
from rlhf_engine.rl.losses import PolicyLoss, ValueLoss, policy_loss, value_loss
from rlhf_engine.scoring import Pack, hidden_states, response_logprobs, token_values
from rlhf_engine.stages.ppo_batch import Blocks, Figures, Targets
from rlhf_engine.stages.ppo_ptx import Conversations

# Of one micro-batch; without a value role there is no value loss.
Losses = tuple[PolicyLoss, ValueLoss | None]


@dataclass
class UpdateStats:
    """Sums over the tokens of all epochs, and what the first minibatch showed."""

    tokens: int = 0
    policy_loss: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    ptx_loss: list[float] = field(default_factory=list)
    clipped: float = 0.0
    value_loss: float | None = None
    value_clipped: float = 0.0
    approx_kl: float = 0.0
    first_ratio_error: float = 0.0

    def add(self, losses: Sequence[Losses], tokens: int, norm: float, ranks: Ranks) -> None:
        """Count a minibatch of `tokens` tokens; `losses` are this process's micro-batches."""
        if not self.tokens:
            error = _largest([float(policy.ratio_error) for policy, _ in losses])
            self.first_ratio_error = _largest(ranks.gather([error], ranks.size))
        values = [value for _, value in losses if value is not None]
        policy_loss, clipped, approx_kl, value_loss, value_clipped = ranks.sums(
            [
                sum(float(policy.loss.detach()) for policy, _ in losses),
                sum(float(policy.clipped) for policy, _ in losses),
                sum(float(policy.approx_kl) for policy, _ in losses),
                sum(float(value.loss.detach()) for value in values),
                sum(float(value.clipped) for value in values),
            ]
        )
        self.tokens += tokens
        self.grad_norm.append(norm)
        self.policy_loss.append(policy_loss)
        self.clipped += clipped
        self.approx_kl += approx_kl
        if values:
            self.value_loss = (self.value_loss or 0.0) + value_loss * tokens
            self.value_clipped += value_clipped

    def metrics(self) -> dict[str, float]:
        tokens = max(1, self.tokens)
        found = {
            "policy_loss": _mean(self.policy_loss),
            "clip_fraction": self.clipped / tokens,
            "approx_kl": self.approx_kl / tokens,
            "first_ratio_error": self.first_ratio_error,
            "grad_norm": _mean(self.grad_norm),
        }
        if self.value_loss is not None:
            found["value_loss"] = self.value_loss / tokens
            found["value_clip_fraction"] = self.value_clipped / tokens
        if self.ptx_loss:
            found["ptx_loss"] = _mean(self.ptx_loss)
        return found


def _largest(values: Sequence[float]) -> float:
    """The largest of them; NaN if one is, which `max` may pass over."""
    return math.nan if any(map(math.isnan, values)) else max(values, default=0.0)


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


@dataclass(frozen=True)
class Updater:
    """Trains policy and value roles on a batch."""

    roles: Roles
    optimizer: AdapterOptimizer
    spec: Ppo
    value_role: str | None
    sizes: Sizes
    ranks: Ranks
    ptx: Conversations | None = None

    def update(
        self,
        blocks: Blocks,
        figures: Figures,
        targets: Targets,
        knobs: Mapping[str, float],
        lr: float,
        progress: Callable[[float], None],
    ) -> UpdateStats:
        """Run the epochs; one optimiser step a minibatch, however many micro-batches it has."""
        stats, done = UpdateStats(), 0
        for epoch in range(self.spec.epochs):
            for rows in blocks.minibatches(epoch):
                update = partial(self._minibatch, rows, blocks, figures, targets, knobs, lr, stats)
                # What the first minibatch lacks in memory is the whole step's: with smaller
                # blocks its old log-probs must be measured again, or its ratios are not 1.
                _ = self.sizes.fit(update) if stats.tokens else update()
                done += len(rows)
                progress(done)
        return stats

    def _minibatch(
        self,
        rows: list[int],
        blocks: Blocks,
        figures: Figures,
        targets: Targets,
        knobs: Mapping[str, float],
        lr: float,
        stats: UpdateStats,
    ) -> None:
        """One optimiser step; without it, after an error, gradients and stats are as before."""
        packs = blocks.packs(rows)
        count = sum(len(block.targets) for block in packs)
        with self.optimizer.accumulating():
            own = self.ranks.share(packs)
            losses = [self._backward(b, figures, targets, knobs, count) for b in own]
            mixed_in = self._mix_in(blocks.updates_before + len(stats.grad_norm) + 1, knobs)
        norm = self.optimizer.update(lr, knobs["max_grad_norm"])
        stats.add(losses, count, norm, self.ranks)
        stats.ptx_loss += mixed_in

    def _mix_in(self, update: int, knobs: Mapping[str, float]) -> list[float]:
        """Add the gradients of PPO-ptx to those of an update; its loss, or nothing where off."""
        if self.ptx is None or knobs["ptx_coef"] == 0:
            return []
        return [self.ptx.backward(update, knobs["ptx_coef"])]

    def _backward(
        self,
        block: Pack,
        figures: Figures,
        targets: Targets,
        knobs: Mapping[str, float],
        count: int,
    ) -> Losses:
        """Add one micro-batch's gradients; `count` is the token count of its minibatch."""
        hidden = hidden_states(self.roles, "policy", block)
        logp = response_logprobs(self.roles, hidden, block, knobs["temperature"]).logp
        mask = figures.mask[block.cells]
        old, advantages = figures.logp[block.cells], targets.advantages[block.cells]
        policy = policy_loss(logp, old, advantages, mask, knobs["clip"], count)
        if self.value_role is None:
            policy.loss.backward()
            return policy, None
        if self.value_role == "policy":
            value = self._value_loss(hidden, block, figures, targets, knobs, count)
            (policy.loss + knobs["value_coef"] * value.loss).backward()
            return policy, value
        policy.loss.backward()
        hidden = hidden_states(self.roles, self.value_role, block)
        value = self._value_loss(hidden, block, figures, targets, knobs, count)
        (knobs["value_coef"] * value.loss).backward()
        return policy, value

    def _value_loss(
        self,
        hidden: Tensor,
        block: Pack,
        figures: Figures,
        targets: Targets,
        knobs: Mapping[str, float],
        count: int,
    ) -> ValueLoss:
        cells = block.cells
        return value_loss(
            token_values(self.roles, "value", hidden, block),
            figures.values[cells],
            targets.returns[cells],
            figures.mask[cells],
            knobs["value_clip"],
            count,
        )
