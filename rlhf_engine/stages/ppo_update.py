"""The clipped update of one rollout batch: epochs over shuffled minibatches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from rlhf_engine.job.spec import Ppo
from rlhf_engine.model.roles import Roles
from rlhf_engine.optimizer import AdapterOptimizer
from rlhf_engine.rl.losses import PolicyLoss, policy_loss, value_loss
from rlhf_engine.scoring import Pack, hidden_states, response_logprobs, token_values
from rlhf_engine.stages.ppo_batch import Blocks, Figures, Targets


@dataclass
class UpdateStats:
    """Sums over the tokens of all epochs, and what the first minibatch showed."""

    tokens: int = 0
    policy_loss: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    clipped: float = 0.0
    value_loss: float | None = None
    value_clipped: float = 0.0
    approx_kl: float = 0.0
    first_ratio_error: float = 0.0

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
        return found


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


@dataclass(frozen=True)
class Updater:
    """Trains policy and value roles on a batch."""

    roles: Roles
    optimizer: AdapterOptimizer
    spec: Ppo
    value_role: str | None

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
            for index, minibatch in enumerate(blocks.minibatches(epoch)):
                first = epoch == 0 and index == 0
                self._accumulate(minibatch, figures, targets, knobs, stats, first)
                stats.grad_norm.append(self.optimizer.update(lr, knobs["max_grad_norm"]))
                done += sum(len(block.rows) for block in minibatch)
                progress(done)
        return stats

    def _accumulate(
        self,
        minibatch: list[Pack],
        figures: Figures,
        targets: Targets,
        knobs: Mapping[str, float],
        stats: UpdateStats,
        first: bool,
    ) -> None:
        count = sum(len(block.targets) for block in minibatch)
        losses = [self._backward(b, figures, targets, knobs, count, stats) for b in minibatch]
        stats.tokens += count
        stats.policy_loss.append(sum(float(loss.loss.detach()) for loss in losses))
        stats.clipped += sum(float(loss.clipped) for loss in losses)
        stats.approx_kl += sum(float(loss.approx_kl) for loss in losses)
        if first:
            stats.first_ratio_error = max(float(loss.ratio_error) for loss in losses)

    def _backward(
        self,
        block: Pack,
        figures: Figures,
        targets: Targets,
        knobs: Mapping[str, float],
        count: int,
        stats: UpdateStats,
    ) -> PolicyLoss:
        """Add one micro-batch's gradients; `count` is the token count of its minibatch."""
        hidden = hidden_states(self.roles, "policy", block)
        logp = response_logprobs(self.roles, hidden, block, knobs["temperature"]).logp
        mask = figures.mask[block.cells]
        old, advantages = figures.logp[block.cells], targets.advantages[block.cells]
        policy = policy_loss(logp, old, advantages, mask, knobs["clip"], count)
        if self.value_role is None:
            policy.loss.backward()
            return policy
        if self.value_role == "policy":
            value = self._value_loss(hidden, block, figures, targets, knobs, count, stats)
            (policy.loss + knobs["value_coef"] * value).backward()
            return policy
        policy.loss.backward()
        hidden = hidden_states(self.roles, self.value_role, block)
        value = self._value_loss(hidden, block, figures, targets, knobs, count, stats)
        (knobs["value_coef"] * value).backward()
        return policy

    def _value_loss(
        self,
        hidden: Tensor,
        block: Pack,
        figures: Figures,
        targets: Targets,
        knobs: Mapping[str, float],
        count: int,
        stats: UpdateStats,
    ) -> Tensor:
        cells = block.cells
        found = value_loss(
            token_values(self.roles, "value", hidden, block),
            figures.values[cells],
            targets.returns[cells],
            figures.mask[cells],
            knobs["value_clip"],
            count,
        )
        stats.value_loss = (stats.value_loss or 0.0) + float(found.loss.detach()) * count
        stats.value_clipped += float(found.clipped)
        return found.loss
