import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlhf_engine.rl.losses import policy_loss, reward_loss, value_loss
from tests.rl.golden import close, golden


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(loss, of)[0]


def test_the_policy_loss_matches_the_peers() -> None:
    known = golden("03_ppo_losses")
    logp, mask = known["new_logprobs"].requires_grad_(), known["mask"]
    found = policy_loss(logp, known["old_logprobs"], known["advantages"], mask, 0.2)
    close(found.loss, known["pg_loss"])
    close(gradient(found.loss, logp), known["grad_new_logprobs"])
    close(found.clipped / mask.sum(), known["pg_clipfrac"])
    close(found.approx_kl / mask.sum(), known["approxkl_masked"])


def test_the_value_loss_matches_the_peers() -> None:
    known = golden("03_ppo_losses")
    arguments = known["vpred"].requires_grad_(), known["old_values"], known["returns"]
    close(value_loss(*arguments, known["mask"], 0.2).loss, known["vf_loss_same_mask"])
    extra = known["value_mask_p1"]
    found = value_loss(*arguments, extra, 0.2)
    close(found.loss, known["vf_loss"])
    close(found.clipped / extra.sum(), known["vf_clipfrac"], 1e-6)
    close(gradient(known["vf_coef"] * found.loss, arguments[0]), known["grad_vpred"])


@given(st.integers(0, 2**31))
def test_values_that_moved_less_than_the_bound_are_never_counted_as_clipped(seed: int) -> None:
    """In float32 old + (new - old) is not new where the two stand on either side of 0."""
    random = torch.Generator().manual_seed(seed)
    old, new = 0.19 * torch.rand(2, 4, 6, generator=random) - 0.095
    found = value_loss(new, old, torch.ones_like(old), torch.ones_like(old), 0.2)
    assert float(found.clipped) == 0


@pytest.mark.parametrize("case", range(8))
def test_the_policy_loss_matches_the_hand_cases(case: int) -> None:
    row = golden("03_ppo_losses")["hand_dlogp_adv_pgloss_clipfrac_vfloss"][case]
    change, advantage = row[None, None, 0], row[None, None, 1]
    one = torch.ones_like(change)
    found = policy_loss(change, torch.zeros_like(change), advantage, one, 0.2)
    assert float(found.loss) == pytest.approx(float(row[2]))
    assert float(found.clipped) == float(row[3])


def test_the_first_minibatch_has_ratio_1_and_clips_nothing() -> None:
    known = golden("03_ppo_losses")
    old, mask = known["old_logprobs"], known["mask"]
    found = policy_loss(old.clone(), old, known["advantages"], mask, 0.2)
    close(found.loss, known["first_step_expected_pg_loss"])
    assert [float(x) for x in (found.clipped, found.approx_kl, found.ratio_error)] == [0.0] * 3


def test_the_ratio_error_is_the_largest_over_response_tokens() -> None:
    logp = torch.tensor([[0.0, -0.5, 9.0]])
    mask = torch.tensor([[1, 1, 0]])
    found = policy_loss(logp, torch.zeros(1, 3), torch.ones(1, 3), mask, 0.2)
    assert float(found.ratio_error) == pytest.approx(1 - 0.6065307)


@given(st.integers(0, 2**31), st.integers(1, 5))
def test_micro_batches_add_up_to_the_minibatch(seed: int, size: int) -> None:
    random = torch.Generator().manual_seed(seed)
    new, old, advantages, returns = torch.randn(4, 6, 5, dtype=torch.float64, generator=random)
    mask = torch.arange(5) < torch.randint(0, 6, (6, 1), generator=random)
    count = mask.sum().clamp(min=1)
    new.requires_grad_()
    parts = [slice(start, start + size) for start in range(0, 6, size)]
    policy = policy_loss(new, old, advantages, mask, 0.2)
    split = [policy_loss(new[p], old[p], advantages[p], mask[p], 0.2, count) for p in parts]
    value = value_loss(new, old, returns, mask, 0.2)
    divided = [value_loss(new[p], old[p], returns[p], mask[p], 0.2, count) for p in parts]
    for whole, losses in (
        (policy.loss, [part.loss for part in split]),
        (value.loss, [part.loss for part in divided]),
    ):
        close(torch.stack(losses).sum(), whole)
        close(gradient(torch.stack(losses).sum(), new), gradient(whole, new))
    close(torch.stack([part.clipped for part in split]).sum(), policy.clipped)
    close(torch.stack([part.approx_kl for part in split]).sum(), policy.approx_kl)
    close(torch.stack([part.ratio_error for part in split]).amax(), policy.ratio_error)


@given(st.integers(0, 2**31))
def test_padding_changes_neither_losses_nor_gradients(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    figures = torch.randn(3, 4, 5, dtype=torch.float64, generator=random)
    mask = torch.arange(5) < torch.randint(1, 6, (4, 1), generator=random)
    dirty = torch.where(mask, figures, 1e5 * torch.randn(figures.shape, generator=random))
    for loss in (policy_loss, value_loss):
        clean_new, dirty_new = (x[0].clone().requires_grad_() for x in (figures, dirty))
        clean = loss(clean_new, figures[1], figures[2], mask, 0.2)
        padded = loss(dirty_new, dirty[1], dirty[2], mask, 0.2)
        close(padded.loss, clean.loss)
        close(padded.clipped, clean.clipped)
        close(gradient(padded.loss, dirty_new), gradient(clean.loss, clean_new) * mask)


def test_a_batch_without_tokens_has_no_loss_and_no_gradient() -> None:
    for loss in (policy_loss, value_loss):
        new = torch.ones(2, 3, requires_grad=True)
        found = loss(new, torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2, 3), 0.2)
        assert found.loss.item() == 0.0
        assert not gradient(found.loss, new).any()


@pytest.mark.parametrize(
    ("key", "has_margin", "centre_coef"),
    [
        ("plain", False, 0.0),
        ("margin", True, 0.0),
        ("center001", False, 0.01),
        ("margin_center01", True, 0.1),
    ],
)
def test_the_reward_loss_matches_the_peers(key: str, has_margin: bool, centre_coef: float) -> None:
    known = golden("09_reward_loss")
    chosen = known["rewards_chosen"].requires_grad_()
    rejected = known["rewards_rejected"].requires_grad_()
    margin = known["margin"] if has_margin else None
    found = reward_loss(chosen, rejected, margin, centre_coef)
    close(found.loss, known[f"{key}_loss"])
    gradients = torch.autograd.grad(found.loss, (chosen, rejected))
    close(gradients[0], known[f"{key}_grad_chosen"])
    close(gradients[1], known[f"{key}_grad_rejected"])
    assert float(found.correct) / len(chosen) == float(known["accuracy_strict"])
    close(found.margin / len(chosen), known["mean_margin"])


def test_extreme_differences_give_numbers_and_a_tie_is_wrong() -> None:
    known = golden("09_reward_loss")
    for difference, expected in zip(
        known["extreme_delta"], known["extreme_loss_each"], strict=True
    ):
        found = reward_loss(difference[None], torch.zeros(1, dtype=torch.float64))
        close(found.loss, expected)
        assert float(found.correct) == float(difference > 0)


def test_reward_micro_batches_add_up_to_the_batch() -> None:
    known = golden("09_reward_loss")
    chosen, rejected, margin = (known[k] for k in ("rewards_chosen", "rewards_rejected", "margin"))
    whole = reward_loss(chosen, rejected, margin, 0.1)
    parts = [
        reward_loss(chosen[p], rejected[p], margin[p], 0.1, denominator=len(chosen))
        for p in (slice(0, 3), slice(3, 10))
    ]
    close(torch.stack([part.loss for part in parts]).sum(), whole.loss)
    assert sum(int(part.correct) for part in parts) == int(whole.correct)
