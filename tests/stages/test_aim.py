"""Advantages and returns of a batch against plain loops, for every estimator and ragged rows."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlhf_engine.job.spec import Ppo
from rlhf_engine.stages.ppo_batch import Figures, Targets, aim
from tests.stages.by_hand import Rows, aim_by_hand

WIDTH = 5
LENGTHS = st.lists(st.integers(0, WIDTH), min_size=4, max_size=4)
NUMBERS = st.floats(-5, 5, allow_subnormal=False)
FORMS = [
    {"advantage": "gae", "gamma": 0.9, "lam": 0.8, "whiten_rewards": False},
    {"advantage": "gae", "gamma": 1.0, "lam": 0.95, "whiten_rewards": True},
    {"advantage": "rloo"},
    {"advantage": "grpo"},
    {"advantage": "dr_grpo"},
]


def ppo_of(form: dict[str, Any], estimator: str) -> Ppo:
    return Ppo.model_validate(
        {"group_size": 2, "batch_size": 4, "minibatches": 1, "kl": {"estimator": estimator}} | form
    )


def batch(lengths: list[int], seed: int, garbage: float) -> tuple[Figures, list[Rows]]:
    """Figures with garbage on their padding, and the same as ragged rows. Double precision."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(WIDTH) < torch.tensor(lengths)[:, None]
    exact = 0.5 * torch.randn(3, 4, WIDTH, dtype=torch.float64, generator=generator)
    dirty = torch.where(mask, exact, garbage)
    ragged = [
        [exact[kind, row, :length].tolist() for row, length in enumerate(lengths)]
        for kind in range(3)
    ]
    return Figures(mask, dirty[0], dirty[1], dirty[2], dirty[0], dirty[0]), ragged


def check(found: Tensor, mask: Tensor, expected: Rows) -> None:
    assert not found[~mask].any(), "padding aims at nothing"
    for row, values in zip(found, expected, strict=True):
        assert row[: len(values)].tolist() == pytest.approx(values, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
@given(
    lengths=LENGTHS,
    seed=st.integers(0, 2**31),
    scores=st.lists(NUMBERS, min_size=4, max_size=4) | NUMBERS.map(lambda x: [x] * 4),
    estimator=st.sampled_from(["k1", "k2", "k3"]),
    kl_coef=st.floats(0, 2),
    garbage=st.sampled_from([math.nan, math.inf, -math.inf, 1e6]),
)
def test_every_estimator_equals_plain_loops(
    form: dict[str, Any],
    lengths: list[int],
    seed: int,
    scores: list[float],
    estimator: str,
    kl_coef: float,
    garbage: float,
) -> None:
    """Empty rows, one-token rows, equal scores, and NaN or infinity on the padding."""
    ppo = ppo_of(form, estimator)
    figures, (logp, ref, values) = batch(lengths, seed, garbage)
    responses = [[row] for row in range(4)]
    found = aim(figures, responses, torch.tensor(scores, dtype=torch.float64), kl_coef, ppo)
    advantages, returns = aim_by_hand(logp, ref, values, scores, kl_coef, ppo)
    check(found.advantages, figures.mask, advantages)
    check(found.returns, figures.mask, returns)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))
@given(lengths=LENGTHS, score=NUMBERS, per_row=st.booleans())
def test_equal_rewards_without_drift_teach_nothing_in_float32(
    form: dict[str, Any], lengths: list[int], score: float, per_row: bool
) -> None:
    """One token a row, or values that already know the score: no advantage, and no NaN."""
    ppo = ppo_of({**form, "gamma": 1.0}, "k1")
    mask = torch.arange(WIDTH) < torch.tensor(lengths).clamp(max=1 if per_row else WIDTH)[:, None]
    flat = torch.full((4, WIDTH), -1.25)
    values = torch.full((4, WIDTH), 0.0 if per_row else score)
    figures = Figures(mask, flat, flat, values, flat, flat)
    responses = [[row] for row in range(4)]
    found: Targets = aim(figures, responses, torch.full((4,), score), 0.1, ppo)
    if form.get("whiten_rewards") and not per_row:
        assert found.advantages.isfinite().all()
        return
    assert found.advantages.abs().max() < 1e-4


@pytest.mark.parametrize("advantage", ["rloo", "grpo", "dr_grpo"])
def test_copies_of_a_response_are_worth_the_same_whatever_rounding_says(advantage: str) -> None:
    """One prompt answered twice alike, another answered twice in two ways."""
    ppo = ppo_of({"advantage": advantage}, "k1")
    mask = torch.ones(4, WIDTH, dtype=torch.bool)
    ref = torch.full((4, WIDTH), -1.25)
    logp = ref + torch.tensor([0.3, 0.3 + 1e-6, 0.3, 0.3 + 1e-6])[:, None]
    figures = Figures(mask, logp, ref, torch.zeros_like(ref), logp, logp)
    scores = torch.tensor([0.7, 0.7000001, 0.7, 0.7000001])
    found = aim(figures, [[5, 6], [5, 6], [5, 6], [5, 7]], scores, 0.1, ppo).advantages
    assert not found[:2].any()
    assert found[2:].abs().min() > 0
