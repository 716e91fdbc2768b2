"""Losses on preference pairs against the peers' numbers and the papers' properties."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlhf_engine.rl.logprobs import token_logprobs
from rlhf_engine.rl.preference import (
    PREFERENCE_LOSSES,
    Side,
    ipo,
    pair_figures,
    sigmoid,
)
from tests.rl.golden import close, golden

KNOWN = golden("10_preference_losses")
BETAS = (0.1, 0.5)


def stored_sides() -> tuple[Side, Side]:
    chosen, rejected = (
        Side(
            KNOWN[f"policy_{side}_logps"].clone(),
            KNOWN[f"ref_{side}_logps"].clone(),
            KNOWN[f"{side}_len"],
        )
        for side in ("chosen", "rejected")
    )
    return chosen, rejected


def sides_of(logits: Tensor) -> tuple[Side, Side]:
    """The sides from logits (8, T, V), by our own log-probs: the first four rows are chosen."""
    mask = KNOWN["completion_mask"][:, 1:].bool()
    targets, vocabulary = KNOWN["input_ids"][:, 1:][mask], logits.shape[-1]
    lengths = mask.sum(-1)

    def summed(flat: Tensor) -> Tensor:
        # With a unit matrix for a head the hidden states are the logits themselves.
        logp = token_logprobs(flat, torch.eye(vocabulary, dtype=flat.dtype), targets).logp
        return torch.stack([part.sum() for part in logp.split(lengths.tolist())])

    halves = zip(
        summed(logits[:, :-1][mask]).chunk(2),
        summed(KNOWN["ref_logits"][:, :-1][mask]).chunk(2),
        lengths.chunk(2),
        strict=True,
    )
    chosen, rejected = (Side(*parts) for parts in halves)
    return chosen, rejected


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("name", sorted(PREFERENCE_LOSSES))
def test_losses_and_their_gradients_match_the_peers_from_logits_on(name: str, beta: float) -> None:
    logits = KNOWN["policy_logits"].clone().requires_grad_()
    loss = PREFERENCE_LOSSES[name](*sides_of(logits), beta).mean()
    close(loss, KNOWN[f"dpo_{name}_b{beta}"])
    (gradient,) = torch.autograd.grad(loss, logits)
    close(gradient.norm(), KNOWN[f"dpo_{name}_b{beta}_grad_logits_l2"])
    if (key := f"dpo_{name}_b{beta}_grad_logits") in KNOWN:
        close(gradient, KNOWN[key])


def test_log_probs_of_responses_match_the_peers() -> None:
    for ours, theirs in zip(sides_of(KNOWN["policy_logits"]), stored_sides(), strict=True):
        close(ours.logp, theirs.logp)
        close(ours.ref_logp, theirs.ref_logp)
        assert torch.equal(ours.tokens, theirs.tokens)


@pytest.mark.parametrize("beta", BETAS)
def test_figures_match_the_peers(beta: float) -> None:
    found = pair_figures(*stored_sides(), beta)
    for name, key in (
        ("chosen_reward", "rewards_chosen"),
        ("rejected_reward", "rewards_rejected"),
        ("accuracy", "accuracy"),
        ("margin", "margin"),
    ):
        close(found[name].mean(), KNOWN[f"dpo_{key}_b{beta}"])


def test_hand_cases() -> None:
    chosen, rejected = (
        Side(KNOWN[f"hand_policy_{side}"], KNOWN[f"hand_ref_{side}"], torch.ones(3))
        for side in ("chosen", "rejected")
    )
    close(sigmoid(chosen, rejected, 0.1), KNOWN["hand_losses_b0.1"], 1e-8)


def test_ipo_of_one_token_responses_is_the_papers_sum() -> None:
    chosen, rejected = (side._replace(tokens=torch.ones(4)) for side in stored_sides())
    close(ipo(chosen, rejected, 0.1).mean(), KNOWN["ipo_unnormalised_openrlhf_b0.1"])


def full(value: float) -> Tensor:
    return torch.full((5,), value, dtype=torch.float64)


def drawn(seed: int, pairs: int = 5) -> tuple[Side, Side]:
    random = torch.Generator().manual_seed(seed)
    logp = 20 * torch.randn(4, pairs, dtype=torch.float64, generator=random)
    tokens = torch.randint(1, 30, (2, pairs), generator=random)
    return Side(logp[0], logp[1], tokens[0]), Side(logp[2], logp[3], tokens[1])


@given(st.integers(0, 2**31), st.floats(0.01, 10))
def test_swapped_sides_turn_the_preference_round(seed: int, beta: float) -> None:
    chosen, rejected = drawn(seed)
    there, back = sigmoid(chosen, rejected, beta), sigmoid(rejected, chosen, beta)
    # -log s(x) + log s(-x) = -x, and the two probabilities add up to 1.
    difference = chosen.log_ratio - rejected.log_ratio
    close(there - back, -beta * difference)
    close((-there).exp() + (-back).exp(), torch.ones(5))
    per_token = chosen.log_ratio / chosen.tokens - rejected.log_ratio / rejected.tokens
    there, back = ipo(chosen, rejected, beta), ipo(rejected, chosen, beta)
    close(there - back, -2 * per_token / beta, 1e-7)
    figures, swapped = pair_figures(chosen, rejected, beta), pair_figures(rejected, chosen, beta)
    close(figures["margin"], -swapped["margin"])
    close(figures["accuracy"], 1 - swapped["accuracy"])


@given(st.integers(0, 2**31), st.floats(0.01, 10))
def test_a_policy_equal_to_its_reference_has_the_same_loss_on_every_pair(
    seed: int, beta: float
) -> None:
    chosen, rejected = (side._replace(logp=side.ref_logp) for side in drawn(seed))
    close(sigmoid(chosen, rejected, beta), full(math.log(2)))
    close(sigmoid(chosen, rejected, 0.1).mean(), KNOWN["dpo_policy_equals_ref_b0.1"])
    close(ipo(chosen, rejected, beta), full(1 / (4 * beta**2)))
    figures = pair_figures(chosen, rejected, beta)
    assert not figures["margin"].any()
    assert not figures["accuracy"].any(), "a tie is wrong"


@given(st.integers(0, 2**31))
def test_a_vanishing_beta_pulls_both_sides_apart_alike(seed: int) -> None:
    """The limit of the gradient: -beta/2 and +beta/2, whatever the pair (Rafailov et al., 4)."""
    chosen, rejected = drawn(seed)
    chosen.logp.requires_grad_(), rejected.logp.requires_grad_()
    beta = 1e-9
    losses = sigmoid(chosen, rejected, beta)
    close(losses, full(math.log(2)), 1e-6)
    up, down = torch.autograd.grad(losses.sum(), (chosen.logp, rejected.logp))
    close(up / beta, full(-0.5), 1e-6)
    close(down / beta, full(0.5), 1e-6)


@given(st.integers(0, 2**31), st.floats(0.05, 1), st.sampled_from([-1.0, 0.0, 1.0]))
def test_ipo_holds_a_pair_at_its_margin_from_both_sides(seed: int, beta: float, off: float) -> None:
    chosen, rejected = drawn(seed)
    short = 1 / (2 * beta) + rejected.log_ratio / rejected.tokens - chosen.log_ratio / chosen.tokens
    there = chosen._replace(logp=chosen.logp + (short + off) * chosen.tokens)
    there.logp.requires_grad_()
    losses = ipo(there, rejected, beta)
    close(losses, full(off**2), 1e-7)
    (pull,) = torch.autograd.grad(losses.sum(), there.logp)
    close(pull, 2 * off / chosen.tokens, 1e-7)


def test_extreme_differences_give_numbers() -> None:
    far = torch.tensor([-1e4, 1e4], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    chosen, rejected = Side(far, zero, torch.ones(2)), Side(zero, zero, torch.ones(2))
    close(sigmoid(chosen, rejected, 1.0), torch.tensor([1e4, 0.0]))
    assert ipo(chosen, rejected, 1.0).isfinite().all()
