"""Log-probs of the tokens that a loss mask marks, and their sums over a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_engine.data.batches import pad_right
from rlhf_engine.data.tokens import Encoded
from rlhf_engine.model.roles import Roles
from rlhf_engine.ranks import Ranks
from rlhf_engine.rl.logprobs import best_tokens, token_logprobs


@dataclass
class TokenSums:
    """Running sums over assistant tokens; the properties are means."""

    log_prob: float = 0.0
    correct: int = 0
    tokens: int = 0

    def add(self, logp: Tensor, correct: Tensor) -> None:
        self.log_prob += float(logp.detach().sum())
        self.correct += int(correct.sum())
        self.tokens += len(logp)

    def over(self, ranks: Ranks) -> "TokenSums":
        """The sums of all processes."""
        log_prob, correct, tokens = ranks.sums([self.log_prob, self.correct, self.tokens])
        return TokenSums(log_prob, int(correct), int(tokens))

    @property
    def loss(self) -> float:
        return -self.log_prob / max(1, self.tokens)

    @property
    def accuracy(self) -> float:
        return self.correct / max(1, self.tokens)


def masked_logprobs(roles: Roles, batch: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """Policy log-probs of the marked tokens of a batch, flat, and whether each was likeliest."""
    hidden, targets = _marked(roles, batch)
    head = roles.vocabulary_head
    logp = token_logprobs(hidden, head.weight, targets, bias=head.bias).logp
    return logp, best_tokens(hidden.detach(), head.weight, head.bias) == targets


def log_likelihood(roles: Roles, batch: Sequence[Encoded]) -> Tensor:
    """Sum of the policy's log-probs of the marked tokens of a batch, in nats."""
    hidden, targets = _marked(roles, batch)
    head = roles.vocabulary_head
    return token_logprobs(hidden, head.weight, targets, bias=head.bias).logp.sum()


def _marked(roles: Roles, batch: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """The policy's hidden states before the marked tokens, and those tokens. (N, H), (N,)."""
    ids, _ = pad_right([item.ids for item in batch], roles.base.pad_id)
    marks, _ = pad_right([item.loss_mask for item in batch], 0)
    ids = ids.to(roles.device)
    rows, columns = torch.nonzero(marks[:, 1:], as_tuple=True)
    rows, columns = rows.to(roles.device), columns.to(roles.device)
    return roles.hidden("policy", ids)[rows, columns], ids[rows, columns + 1]
