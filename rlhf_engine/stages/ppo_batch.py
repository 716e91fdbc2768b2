"""One rollout batch with everything the update needs, as (B, T) figures of response tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_engine.fitting import Sizes
from rlhf_engine.job.spec import Ppo
from rlhf_engine.model.roles import Roles
from rlhf_engine.ranks import Ranks
from rlhf_engine.rl.advantages import dr_grpo, gae, grpo, pooled, rloo
from rlhf_engine.rl.kl import k1, k3, per_token_kl, sequence_kl
from rlhf_engine.rl.masked import whiten
from rlhf_engine.rl.rewards import penalised_rewards
from rlhf_engine.scoring import (
    Pack,
    hidden_states,
    micro_batches,
    pack,
    response_logprobs,
    token_values,
)
from rlhf_engine.seeding import permutation
from rlhf_engine.stages.asking import Answer

GROUPED = {"rloo": rloo, "grpo": grpo, "dr_grpo": dr_grpo}


@dataclass
class Figures:
    """What the roles say of every response token, before the update. All (B, T), fp32."""

    mask: Tensor
    logp: Tensor
    ref_logp: Tensor
    values: Tensor
    entropy: Tensor
    sampled_logp: Tensor

    @property
    def kl(self) -> Tensor:
        """k1 summed over tokens, nats per response. (B,)."""
        return sequence_kl(k1(self.logp, self.ref_logp), self.mask)

    @property
    def kl_k3(self) -> Tensor:
        """k3 summed over tokens, nats per response. (B,)."""
        return sequence_kl(k3(self.logp, self.ref_logp), self.mask)


@dataclass(frozen=True)
class Targets:
    """What the update aims at. Both (B, T)."""

    advantages: Tensor
    returns: Tensor


class Blocks:
    """The batch cut into minibatches and micro-batches, the same way for scoring and update.

    Log-probs depend on the shape of a block by rounding: the first epoch reads the blocks that
    were scored, so that its first ratios are exactly 1, in bf16 too.
    """

    def __init__(
        self,
        answers: Sequence[Answer],
        spec: Ppo,
        seed: int,
        step: int,
        roles: Roles,
        sizes: Sizes,
        ranks: Ranks,
    ) -> None:
        self._prompts = [answer.question.ids for answer in answers]
        self._responses = [answer.response.tokens for answer in answers]
        self._spec = spec
        self._seed = seed
        self._step = step
        self._roles = roles
        self._sizes = sizes
        self._ranks = ranks
        self._lengths = [
            len(p) + len(r) for p, r in zip(self._prompts, self._responses, strict=True)
        ]

    @property
    def updates_before(self) -> int:
        """Optimiser updates in the steps before this one."""
        return (self._step - 1) * self._spec.epochs * self._spec.minibatches

    def minibatches(self, epoch: int) -> list[list[int]]:
        """Shuffled minibatches of one epoch, each as its rows."""
        rows = permutation(self._seed, f"minibatch-{epoch}", self._step, len(self._prompts))
        size = len(rows) // self._spec.minibatches
        return [rows[i : i + size] for i in range(0, len(rows), size)]

    def packs(self, rows: list[int]) -> list[Pack]:
        """A minibatch as the micro-batches that fit into memory now."""
        base = self._roles.base
        size = self._ranks.rows_at_once(self._sizes.micro_batch, len(rows))
        return [
            pack(self._prompts, self._responses, group, base.pad_id, self._roles.device)
            for group in micro_batches(self._lengths, rows, size)
        ]


@torch.no_grad()
def measure(
    roles: Roles,
    answers: Sequence[Answer],
    blocks: Sequence[Pack],
    temperature: float,
    value_role: str | None,
    ranks: Ranks,
    progress: Callable[[float], None],
) -> Figures:
    """Log-probs under policy and reference, values, entropies; all by the training forward.

    `value_role` is the role whose hidden states the value head reads; None leaves values at 0.
    """
    width = max(len(answer.response.tokens) for answer in answers)
    shape = (len(answers), width)
    logp, ref_logp, values, entropy, sampled = (
        torch.zeros(shape, device=roles.device) for _ in range(5)
    )
    mask = torch.zeros(shape, dtype=torch.bool, device=roles.device)
    done = 0
    for block in ranks.share(blocks):
        hidden = hidden_states(roles, "policy", block)
        own = response_logprobs(roles, hidden, block, temperature)
        logp[block.cells], entropy[block.cells] = own.logp, own.entropy
        if value_role is not None:
            if value_role != "policy":
                hidden = hidden_states(roles, value_role, block)
            values[block.cells] = token_values(roles, "value", hidden, block)
        hidden = hidden_states(roles, "reference", block)
        ref_logp[block.cells] = response_logprobs(roles, hidden, block, temperature).logp
        done += len(block.rows) * ranks.size
        progress(min(done, len(answers)))
    ranks.sum((logp, ref_logp, values, entropy))
    for row, answer in enumerate(answers):
        seen = answer.response.sampled_logp
        sampled[row, : len(seen)] = torch.tensor(seen, device=roles.device)
        mask[row, : len(seen)] = True
    return Figures(mask, logp, ref_logp, values, entropy, sampled)


def aim(
    figures: Figures,
    responses: Sequence[Sequence[int]],
    scores: Tensor,
    kl_coef: float,
    spec: Ppo,
) -> Targets:
    """Advantages and returns of a batch: B responses, as tokens, and their scores (B,)."""
    penalty = per_token_kl(spec.kl.estimator, figures.logp, figures.ref_logp)
    if spec.advantage != "gae":
        net = scores - kl_coef * sequence_kl(penalty, figures.mask)
        net = pooled(net, spec.group_size, responses)
        whole = GROUPED[spec.advantage](net, spec.group_size)
        advantages = whole[:, None] * figures.mask
        return Targets(advantages, torch.zeros_like(advantages))
    rewards = penalised_rewards(scores, penalty, kl_coef, figures.mask)
    if spec.whiten_rewards:
        rewards = whiten(rewards, figures.mask, shift_mean=False) * figures.mask
    found = gae(rewards, figures.values, figures.mask, spec.gamma, spec.lam)
    return Targets(whiten(found.advantages, figures.mask) * figures.mask, found.returns)
