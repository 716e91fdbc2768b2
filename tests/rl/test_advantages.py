import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlhf_engine.rl.advantages import dr_grpo, explained_variance, gae, grpo, pooled, rloo
from tests.rl.golden import close, golden

ESTIMATORS = {"rloo": rloo, "grpo": grpo, "dr_grpo": dr_grpo}


@pytest.mark.parametrize("index", range(6))
def test_gae_matches_trl(index: int) -> None:
    known = golden("01_gae_dense")
    gamma, lam = known["gamma_lam"][index].tolist()
    rewards, values = known["rewards"], known["values"]
    found = gae(rewards, values, torch.ones_like(rewards), gamma, lam)
    close(found.advantages, known[f"advantages_{index}"])
    close(found.returns, known[f"returns_{index}"])


def test_gae_matches_the_hand_case() -> None:
    known = golden("01_gae_dense")
    rewards, values = known["hand_rewards"], known["hand_values"]
    found = gae(rewards, values, torch.ones_like(rewards), 0.9, 0.95)
    close(found.advantages, known["hand_advantages"])
    close(found.returns, known["hand_returns"])


def figures(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, 4, 7, dtype=torch.float64, generator=random)
    return rewards, values, torch.randint(0, 8, (4,), generator=random)


@given(st.integers(0, 2**31), st.sampled_from([1e6, float("inf"), float("nan")]))
def test_a_padded_response_gets_what_it_gets_alone(seed: int, garbage: float) -> None:
    rewards, values, lengths = figures(seed)
    mask = torch.arange(7) < lengths[:, None]
    dirty = [torch.where(mask, x, garbage) for x in (rewards, values)]
    found = gae(dirty[0], dirty[1], mask.double(), 0.97, 0.9)
    for row, length in enumerate(lengths.tolist()):
        part = (slice(row, row + 1), slice(0, length))
        alone = gae(rewards[part], values[part], torch.ones(1, length), 0.97, 0.9)
        close(found.advantages[part], alone.advantages)
        close(found.returns[part], alone.returns)
    assert not found.advantages[~mask].any()
    assert not found.returns[~mask].any()


@given(st.integers(0, 2**31))
def test_lambda_1_is_the_reward_to_go_and_lambda_0_the_temporal_difference(seed: int) -> None:
    rewards, values, _ = figures(seed)
    everywhere = torch.ones_like(rewards)
    to_go = rewards.flip(-1).cumsum(-1).flip(-1)
    close(gae(rewards, values, everywhere, 1.0, 1.0).returns, to_go)
    following = torch.nn.functional.pad(values[:, 1:], (0, 1))
    difference = rewards + 0.9 * following - values
    close(gae(rewards, values, everywhere, 0.9, 0.0).advantages, difference)


def test_a_single_token_gets_its_reward_minus_its_value() -> None:
    one = torch.ones(1, 1)
    found = gae(torch.tensor([[2.0]]), torch.tensor([[0.5]]), one, 0.9, 0.95)
    assert found.advantages.tolist() == [[1.5]]
    assert found.returns.tolist() == [[2.0]]


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_group_advantages_match_verl(name: str) -> None:
    known = golden("11_group_advantages")
    ours = ESTIMATORS[name](known["scores"], 4)
    close(ours[:, None] * known["mask"], known[name])


@pytest.mark.parametrize("name", list(ESTIMATORS))
@pytest.mark.parametrize("size", [2, 3, 6, 7])
def test_equal_scores_give_no_advantage_in_float32(name: str, size: int) -> None:
    scores = torch.full((2 * size,), 10.1)
    advantages = ESTIMATORS[name](scores, size)
    assert advantages.dtype == torch.float32
    assert advantages.abs().max() < 1e-5


@pytest.mark.parametrize("name", list(ESTIMATORS))
@given(seed=st.integers(0, 2**31), size=st.integers(2, 6), shift=st.floats(-50, 50))
def test_groups_are_centred_and_independent_of_each_other(
    name: str, seed: int, size: int, shift: float
) -> None:
    random = torch.Generator().manual_seed(seed)
    scores = torch.randn(3 * size, dtype=torch.float64, generator=random)
    estimate = ESTIMATORS[name]
    found = estimate(scores, size).view(3, size)
    close(found.sum(-1), torch.zeros(3, dtype=torch.float64))
    moved = scores.clone()
    moved[:size] += shift
    close(estimate(moved, size).view(3, size), found, 1e-6)


def test_rloo_is_dr_grpo_times_k_over_k_minus_1() -> None:
    scores = torch.tensor([1.0, 4.0, -2.0, 3.0, 3.0, 0.0], dtype=torch.float64)
    close(rloo(scores, 3), dr_grpo(scores, 3) * 3 / 2)
    assert rloo(scores[:3], 3).tolist() == [0.0, 4.5, -4.5]


def test_explained_variance_is_1_for_perfect_and_0_for_constant_values() -> None:
    returns = torch.tensor([[1.0, 2.0, 4.0, 99.0]])
    mask = torch.tensor([[1, 1, 1, 0]])
    assert float(explained_variance(returns, returns, mask)) == 1.0
    assert float(explained_variance(torch.full_like(returns, 5.0), returns, mask)) == 0.0
    assert float(explained_variance(-returns, returns, mask)) == pytest.approx(-3.0)


@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_explained_variance_is_0_where_returns_do_not_vary(tokens: int) -> None:
    values, returns = torch.tensor([[1.0, 2.0, 3.0]]), torch.ones(1, 3)
    mask = torch.arange(3)[None] < tokens
    assert float(explained_variance(values, returns, mask)) == 0.0


def test_copies_of_a_response_share_their_mean_within_their_group_alone() -> None:
    scores = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], dtype=torch.float64)
    given = scores.clone()
    responses = [[7], [7, 7], [7], [7], [], []]
    assert pooled(scores, 3, responses).tolist() == [2.5, 2.0, 2.5, 8.0, 24.0, 24.0]
    assert torch.equal(scores, given)


@given(st.integers(2, 9), st.floats(-1e3, 1e3, width=32), st.integers(0, 2**31))
def test_copies_that_differ_by_rounding_have_no_advantage(
    size: int, score: float, seed: int
) -> None:
    noise = 1 + 1e-6 * torch.randn(size, generator=torch.Generator().manual_seed(seed))
    level = pooled(score * noise, size, [[3]] * size)
    for estimator in ESTIMATORS.values():
        assert estimator(level, size).abs().max() < 1e-3
    assert not grpo(level, size).any()
