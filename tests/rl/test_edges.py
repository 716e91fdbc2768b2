"""Rows without tokens, with one token, with equal figures and with garbage on their padding."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlhf_engine.rl.advantages import dr_grpo, explained_variance, grpo, rloo
from rlhf_engine.rl.controllers import adaptive_coef
from rlhf_engine.rl.losses import policy_loss, reward_loss, value_loss
from rlhf_engine.rl.responses import lengths, response_mask
from rlhf_engine.rl.rewards import apply_missing_eos, penalised_rewards

ROWS, WIDTH = 4, 5
SEEDS = st.integers(0, 2**31)
LENGTHS = st.lists(st.integers(0, WIDTH), min_size=ROWS, max_size=ROWS)
GARBAGE = st.sampled_from([math.nan, math.inf, -math.inf, 1e30])


def padded(seed: int, row_lengths: list[int], garbage: float) -> tuple[Tensor, Tensor, Tensor]:
    """Four figures a token, clean and with garbage on the padding, and the mask."""
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randn(4, ROWS, WIDTH, dtype=torch.float64, generator=generator)
    mask = torch.arange(WIDTH) < torch.tensor(row_lengths)[:, None]
    return clean, torch.where(mask, clean, garbage), mask


@pytest.mark.parametrize("loss", [policy_loss, value_loss])
@given(seed=SEEDS, row_lengths=LENGTHS, garbage=GARBAGE)
def test_garbage_on_padding_reaches_neither_a_loss_nor_its_gradient(
    loss: object, seed: int, row_lengths: list[int], garbage: float
) -> None:
    clean, dirty, mask = padded(seed, row_lengths, garbage)
    results = []
    for figures in (clean, dirty):
        new = figures[0].clone().requires_grad_()
        found = loss(new, figures[1], figures[2], mask, 0.2)  # type: ignore[operator]
        found.loss.backward()
        assert new.grad is not None
        results.append((found, new.grad))
    (a, a_grad), (b, b_grad) = results
    assert torch.equal(a_grad, b_grad)
    assert not b_grad[~mask].any()
    for ours, theirs in zip(a, b, strict=True):
        assert ours.isfinite()
        assert torch.equal(ours, theirs)


@given(seed=SEEDS, row_lengths=LENGTHS, garbage=GARBAGE)
def test_rewards_and_explained_variance_are_numbers_for_any_rows(
    seed: int, row_lengths: list[int], garbage: float
) -> None:
    _, dirty, mask = padded(seed, row_lengths, garbage)
    scores = torch.arange(ROWS, dtype=torch.float64)
    rewards = penalised_rewards(scores, dirty[0], 0.3, mask)
    assert rewards.isfinite().all()
    assert not rewards[~mask].any()
    explained = explained_variance(dirty[0], dirty[1], mask)
    assert explained.isfinite()
    assert explained <= 1


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=4),
    st.sets(st.integers(0, 4), max_size=3),
)
def test_responses_end_where_a_loop_over_their_tokens_ends_them(
    rows: list[list[int]], ends: set[int]
) -> None:
    mask, finished = response_mask(torch.tensor(rows), ends)
    for tokens, own_mask, own_end in zip(rows, mask.tolist(), finished.tolist(), strict=True):
        said = []
        for token in tokens:
            said.append(token)
            if token in ends:
                break
        assert own_mask == [place < len(said) for place in range(6)]
        assert own_end == (said[-1] in ends)
    assert lengths(mask).min() >= 1


@given(SEEDS, st.sampled_from(["replace", "subtract", "none"]), st.floats(0, 5))
def test_only_responses_without_an_end_lose_score(seed: int, policy: str, penalty: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(6, dtype=torch.float64, generator=generator)
    finished = torch.rand(6, generator=generator) < 0.5
    found = apply_missing_eos(scores, finished, policy, penalty)  # type: ignore[arg-type]
    assert torch.equal(found[finished], scores[finished])
    expected = {
        "replace": torch.full_like(scores, -penalty),
        "subtract": scores - penalty,
        "none": scores,
    }[policy]
    assert torch.equal(found[~finished], expected[~finished])


@pytest.mark.parametrize("estimate", [rloo, grpo, dr_grpo])
@given(
    scores=st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=8),
    repeats=st.integers(1, 3),
)
def test_group_advantages_are_numbers_of_bounded_size(
    estimate: object, scores: list[float], repeats: int
) -> None:
    size = len(scores)
    found = estimate(torch.tensor(scores * repeats), size)  # type: ignore[operator]
    spread = max(scores) - min(scores)
    # A standardised score of a group of n lies within (n - 1) / sqrt(n).
    bound = (size - 1) / math.sqrt(size) if estimate is grpo else spread * size / (size - 1)
    assert found.isfinite().all()
    assert found.abs().max() <= bound * (1 + 1e-4) + 1e-2 * (estimate is not grpo)


@given(st.floats(1e-6, 10), st.floats(-1e4, 1e4), st.floats(0.1, 1e3), st.integers(1, 4096))
def test_the_adaptive_coefficient_stays_positive_and_moves_by_at_most_its_clip(
    coef: float, kl: float, target: float, batch: int
) -> None:
    """k1 over few responses can be negative; the coefficient must not follow it there."""
    found = adaptive_coef(coef, kl, target, batch, horizon=10_000.0)
    assert found > 0
    assert abs(found / coef - 1) <= 0.2 * batch / 10_000.0 + 1e-9
    assert (found > coef) == (kl > target) or math.isclose(found, coef)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=5), st.booleans())
def test_the_reward_loss_is_a_number_for_any_scores(scores: list[float], equal: bool) -> None:
    chosen = torch.tensor(scores, requires_grad=True)
    rejected = chosen.detach().clone() if equal else torch.zeros(len(scores))
    found = reward_loss(chosen, rejected, centre_coef=0.01)
    found.loss.backward()
    assert found.loss.isfinite()
    assert chosen.grad is not None
    assert chosen.grad.isfinite().all()
    if equal:
        assert found.correct == 0
