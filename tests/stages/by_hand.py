"""PPO as the papers say it: one token, one prefix, one number at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from torch import Tensor, nn

from rlhf_engine.job.spec import Ppo
from rlhf_engine.seeding import permutation
from tests.stages.inputs import Inputs, plain_model

Rows = list[list[float]]


class Plain:
    """One role as a model of its own, by transformers and PEFT: no batch, no padding, no cache."""

    def __init__(self, base: Path, adapter: Path | None, *, head: bool = False) -> None:
        model = plain_model(base, head=head)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
        self.model = model.eval()

    def __call__(self, ids: Sequence[int]) -> Tensor:
        """What the model says after the last of these tokens: logits (V,), or its score ()."""
        return self._output(ids).logits[0, -1]  # type: ignore[no-any-return]

    def logits_and_state(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logits after the last of these tokens (V,) and the last hidden state there (H,)."""
        output = self._output(ids, output_hidden_states=True)
        return output.logits[0, -1], output.hidden_states[-1][0, -1]

    def _output(self, ids: Sequence[int], **options: Any) -> Any:
        return self.model(input_ids=torch.tensor([list(ids)]), use_cache=False, **options)

    @property
    def trained(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def weights(self) -> dict[str, Tensor]:
        state = get_peft_model_state_dict(self.model)
        return {name.removeprefix("base_model.model."): t for name, t in state.items()}


@dataclass
class Batch:
    """Responses with what the roles say of each token before the update."""

    prompts: list[list[int]]
    tokens: list[list[int]]
    finished: list[bool]
    raw: list[float]
    logp: Rows
    ref_logp: Rows
    values: Rows
    entropy: Rows


@dataclass
class Update:
    """Means over the tokens, or over the minibatches, of all epochs."""

    policy_loss: float
    value_loss: float
    clip_fraction: float
    value_clip_fraction: float
    approx_kl: float
    grad_norm: float


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def variance(values: Sequence[float]) -> float:
    """Unbiased; 0 for fewer than two."""
    if len(values) < 2:
        return 0.0
    middle = mean(values)
    return sum((x - middle) ** 2 for x in values) / (len(values) - 1)


def flat(rows: Rows) -> list[float]:
    return [x for row in rows for x in row]


def whitened(rows: Rows, *, shift: bool) -> Rows:
    middle, deviation = mean(flat(rows)), math.sqrt(variance(flat(rows)) + 1e-8)
    return [[(x - middle) / deviation + (0.0 if shift else middle) for x in row] for row in rows]


def token_kl(estimator: str, logp: float, ref: float) -> float:
    if estimator == "k1":
        return logp - ref
    if estimator == "k2":
        return (logp - ref) ** 2 / 2
    return min(math.exp(ref - logp) - 1 - (ref - logp), 10.0)


def kls(estimator: str, logp: Rows, ref: Rows) -> Rows:
    return [
        [token_kl(estimator, p, q) for p, q in zip(own, other, strict=True)]
        for own, other in zip(logp, ref, strict=True)
    ]


def aim_by_hand(
    logp: Rows, ref: Rows, values: Rows, scores: Sequence[float], kl_coef: float, ppo: Ppo
) -> tuple[Rows, Rows]:
    """Advantages and returns of every token."""
    kl = kls(ppo.kl.estimator, logp, ref)
    if ppo.advantage != "gae":
        net = [score - kl_coef * sum(row) for score, row in zip(scores, kl, strict=True)]
        whole = group_advantages(net, ppo.advantage, ppo.group_size)
        spread = [[a] * len(row) for a, row in zip(whole, kl, strict=True)]
        return spread, [[0.0] * len(row) for row in kl]
    rewards = rewards_by_hand(kl, scores, kl_coef, ppo)
    advantages = [
        gae_by_hand(own, seen, ppo.gamma, ppo.lam)
        for own, seen in zip(rewards, values, strict=True)
    ]
    returns = [
        [a + v for a, v in zip(own, seen, strict=True)]
        for own, seen in zip(advantages, values, strict=True)
    ]
    return whitened(advantages, shift=True), returns


def rewards_by_hand(kl: Rows, scores: Sequence[float], kl_coef: float, ppo: Ppo) -> Rows:
    """What each token earns: minus the price of its drift, and the score on the last one."""
    rewards = [[-kl_coef * x for x in row] for row in kl]
    for row, score in zip(rewards, scores, strict=True):
        if row:
            row[-1] += score
    return whitened(rewards, shift=False) if ppo.whiten_rewards else rewards


def gae_by_hand(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    advantages = [0.0] * len(rewards)
    following_value = following_advantage = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        delta = rewards[t] + gamma * following_value - values[t]
        following_advantage = delta + gamma * lam * following_advantage
        following_value = values[t]
        advantages[t] = following_advantage
    return advantages


def group_advantages(net: list[float], kind: str, size: int) -> list[float]:
    found = []
    for row, own in enumerate(net):
        start = row - row % size
        group = net[start : start + size]
        if kind == "rloo":
            others = [x for place, x in enumerate(group) if place != row - start]
            found.append(own - mean(others))
        elif kind == "grpo":
            found.append((own - mean(group)) / (math.sqrt(variance(group)) + 1e-6))
        else:
            found.append(own - mean(group))
    return found


class Learner:
    """Policy, reference, judge and critic, each a model of its own, trained by PPO.

    With `fresh`, the adapter of a policy that started from the bare base, that is the reference.
    """

    def __init__(self, inputs: Inputs, ppo: Ppo, seed: int, fresh: Path | None = None) -> None:
        self.ppo, self.seed = ppo, seed
        self.policy = Plain(inputs.base, fresh or inputs.policy)
        self.reference = Plain(inputs.base, None if fresh else inputs.policy)
        self.judge = Plain(inputs.base, inputs.reward, head=True)
        self.groups = [self.policy.trained]
        self.critic: Plain | None = None
        self.head: nn.Parameter | None = None
        if ppo.advantage == "gae" and ppo.value == "separate":
            self.critic = Plain(inputs.base, inputs.reward, head=True)
            self.groups.append(self.critic.trained)
        elif ppo.advantage == "gae":
            width = self.policy.model.config.hidden_size
            self.head = nn.Parameter(torch.zeros(width))
            self.groups.append([self.head])
        everything = [p for group in self.groups for p in group]
        self.adam = torch.optim.AdamW(
            everything, lr=0.0, weight_decay=ppo.optimizer.weight_decay, foreach=False
        )

    def weights(self) -> dict[str, Tensor]:
        found = {f"policy.{name}": t for name, t in self.policy.weights().items()}
        if self.critic is not None:
            found |= {f"value.{name}": t for name, t in self.critic.weights().items()}
        if self.head is not None:
            found["value.score.weight"] = self.head[None]
        return {name: tensor.detach() for name, tensor in found.items()}

    def see(self, ids: list[int], temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probs of every next token (V,) and the value of this state ()."""
        if self.head is not None:
            logits, state = self.policy.logits_and_state(ids)
            return (logits / temperature).log_softmax(-1), state @ self.head
        value = torch.zeros(()) if self.critic is None else self.critic(ids)
        return (self.policy(ids) / temperature).log_softmax(-1), value

    @torch.no_grad()
    def measure(
        self, prompts: list[list[int]], tokens: list[list[int]], ends: set[int], temperature: float
    ) -> Batch:
        batch = Batch(prompts, tokens, [], [], [], [], [], [])
        for prompt, response in zip(prompts, tokens, strict=True):
            for rows in (batch.logp, batch.ref_logp, batch.values, batch.entropy):
                rows.append([])
            for place, token in enumerate(response):
                prefix = prompt + response[:place]
                logp, value = self.see(prefix, temperature)
                ref = (self.reference(prefix) / temperature).log_softmax(-1)
                batch.logp[-1].append(float(logp[token]))
                batch.ref_logp[-1].append(float(ref[token]))
                batch.values[-1].append(float(value))
                batch.entropy[-1].append(-float((logp.exp() * logp).sum()))
            batch.raw.append(float(self.judge(prompt + response)))
            batch.finished.append(response[-1] in ends)
        return batch

    def update(self, batch: Batch, step: int, advantages: Rows, returns: Rows, lr: float) -> Update:
        """Two clipped losses on every token, one AdamW step a minibatch."""
        losses: list[float] = []
        norms: list[float] = []
        seen: list[tuple[float, float, float, float]] = []
        for epoch in range(self.ppo.epochs):
            rows = permutation(self.seed, f"minibatch-{epoch}", step, len(batch.tokens))
            size = len(rows) // self.ppo.minibatches
            for start in range(0, len(rows), size):
                minibatch = rows[start : start + size]
                count = sum(len(batch.tokens[row]) for row in minibatch)
                losses.append(0.0)
                for row in minibatch:
                    for place in range(len(batch.tokens[row])):
                        adv, ret = advantages[row][place], returns[row][place]
                        part, figures = self._backward(batch, row, place, adv, ret, count)
                        losses[-1] += part
                        seen.append(figures)
                norms.append(self._descend(lr))
        value_loss, clipped, value_clipped, approx_kl = (
            mean(list(x)) for x in zip(*seen, strict=True)
        )
        return Update(mean(losses), value_loss, clipped, value_clipped, approx_kl, mean(norms))

    def _backward(
        self, batch: Batch, row: int, place: int, advantage: float, target: float, count: int
    ) -> tuple[float, tuple[float, float, float, float]]:
        ppo = self.ppo
        response = batch.tokens[row]
        ids = batch.prompts[row] + response[:place]
        logp, value = self.see(ids, ppo.sampling.temperature)
        change = logp[response[place]] - batch.logp[row][place]
        ratio = change.exp()
        plain = ratio * advantage
        bounded = ratio.clamp(1 - ppo.clip, 1 + ppo.clip) * advantage
        policy_loss = -torch.minimum(plain, bounded)
        loss = policy_loss
        value_loss = torch.zeros(())
        value_clipped = False
        if self.ppo.advantage == "gae":
            old = batch.values[row][place]
            near = value.clamp(old - ppo.value_clip, old + ppo.value_clip)
            far, close = (value - target) ** 2, (near - target) ** 2
            value_clipped = bool(close > far)
            value_loss = 0.5 * torch.maximum(far, close)
            loss = loss + ppo.value_coef * value_loss
        (loss / count).backward()
        figures = (
            float(value_loss.detach()),
            float(bounded < plain),
            float(value_clipped),
            0.5 * float(change.detach()) ** 2,
        )
        return float(policy_loss.detach()) / count, figures

    def _descend(self, lr: float) -> float:
        """Shorten each group's gradient to the allowed norm, step, clear; the policy's norm."""
        norms = []
        for group in self.groups:
            grads = [p.grad for p in group if p.grad is not None]
            norm = math.sqrt(sum(float(g.double().pow(2).sum()) for g in grads))
            scale = min(1.0, self.ppo.optimizer.max_grad_norm / (norm + 1e-6))
            for grad in grads:
                grad.mul_(scale)
            norms.append(norm)
        self.adam.param_groups[0]["lr"] = lr
        self.adam.step()
        self.adam.zero_grad()
        return norms[0]
