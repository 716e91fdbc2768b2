"""Losses of direct alignment: a policy from preference pairs, without a reward model.

Each loss takes both sides of N pairs and beta, and gives one figure a pair, (N,); a batch's loss
is their mean.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import logsigmoid


class Side(NamedTuple):
    """One side of N pairs: log-probs summed over its responses, in nats, and their tokens. (N,)."""

    logp: Tensor
    ref_logp: Tensor
    tokens: Tensor

    @property
    def log_ratio(self) -> Tensor:
        """log pi(response) - log pi_ref(response). (N,), in nats."""
        return self.logp - self.ref_logp


PreferenceLoss = Callable[[Side, Side, float], Tensor]


def sigmoid(chosen: Side, rejected: Side, beta: float) -> Tensor:
    """-log sigmoid(beta * (log-ratio of chosen - log-ratio of rejected)). (N,).

    Rafailov et al. 2023, equation 7.
    """
    return -logsigmoid(beta * (chosen.log_ratio - rejected.log_ratio))


def ipo(chosen: Side, rejected: Side, beta: float) -> Tensor:
    """(log-ratio of chosen - log-ratio of rejected - 1 / (2 beta))^2, log-ratios a token. (N,).

    Azar et al. 2024, equation 17, with beta for tau; averaged over tokens as in TRL, where the
    paper sums.
    """
    ours, theirs = (side.log_ratio / side.tokens for side in (chosen, rejected))
    return (ours - theirs - 1.0 / (2.0 * beta)) ** 2


PREFERENCE_LOSSES: dict[str, PreferenceLoss] = {"sigmoid": sigmoid, "ipo": ipo}


def implicit_reward(side: Side, beta: float) -> Tensor:
    """beta * log-ratio: what the policy is optimal for, but for a term of the prompt alone. (N,).

    Rafailov et al. 2023, equation 5.
    """
    return beta * side.log_ratio


def pair_figures(chosen: Side, rejected: Side, beta: float) -> dict[str, Tensor]:
    """What is recorded of each pair beside its loss; carries no gradient. Each (N,).

    A tie counts as wrong, as for the reward model.
    """
    better, worse = (implicit_reward(side, beta).detach() for side in (chosen, rejected))
    return {
        "accuracy": (better > worse).to(better.dtype),
        "margin": better - worse,
        "chosen_reward": better,
        "rejected_reward": worse,
        "chosen_logp": chosen.logp.detach(),
        "rejected_logp": rejected.logp.detach(),
    }
