import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.rl.masked import masked_mean, masked_sum, masked_var, whiten
from tests.rl.golden import close, golden


def test_mean_and_variance_match_trl_and_the_papers() -> None:
    known = golden("02_masked_whiten")
    values, mask = known["values"], known["mask"]
    close(masked_mean(values, mask), known["trl_mean"])
    # TRL's correction n / (n - 1) is rounded to float32.
    close(masked_var(values, mask), known["trl_var_unbiased"], 1e-6)
    close(masked_var(values, mask, unbiased=False), known["var_biased"])


@pytest.mark.parametrize(("shift", "key"), [(True, "trl_shift"), (False, "trl_noshift")])
def test_whitening_matches_trl(shift: bool, key: str) -> None:
    known = golden("02_masked_whiten")
    close(whiten(known["values"], known["mask"], shift), known[key], 1e-6)


def test_whitening_does_not_take_the_biased_variance() -> None:
    known = golden("02_masked_whiten")
    ours = whiten(known["values"], known["mask"])
    assert not torch.allclose(ours, known["nplus_shift"], atol=1e-3)


def test_a_float_mask_means_the_same_as_a_bool_mask() -> None:
    known = golden("02_masked_whiten")
    values, mask = known["values"], known["mask"]
    close(whiten(values, mask.double()), whiten(values, mask))
    close(masked_sum(values, mask.double()), values[mask].sum())


@given(st.integers(0, 2**31), st.sampled_from([1e9, float("inf"), float("nan")]))
def test_what_stands_outside_the_mask_does_not_matter(seed: int, garbage: float) -> None:
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 8, dtype=torch.float64, generator=random)
    mask = torch.rand(3, 8, generator=random) < 0.5
    dirty = torch.where(mask, values, garbage)
    for statistic in (masked_sum, masked_mean, masked_var):
        close(statistic(dirty, mask), statistic(values, mask))
    close(whiten(dirty, mask)[mask], whiten(values, mask)[mask])


@given(st.integers(0, 2**31))
def test_whitened_tokens_have_mean_0_and_unbiased_variance_1(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    values = 5.0 + 3.0 * torch.randn(4, 9, generator=random)
    mask = torch.arange(9) < torch.randint(2, 10, (4, 1), generator=random)
    white = whiten(values, mask)[mask]
    assert white.dtype == torch.float32
    assert abs(float(white.mean())) < 1e-5
    assert float(white.var()) == pytest.approx(1.0, abs=1e-4)
    kept = whiten(values, mask, shift_mean=False)[mask]
    assert float(kept.mean()) == pytest.approx(float(values[mask].mean()), abs=1e-4)


@pytest.mark.parametrize("tokens", [0, 1])
def test_fewer_than_two_tokens_give_numbers(tokens: int) -> None:
    values = torch.tensor([[3.0, -1.0, 7.0]])
    mask = torch.arange(3)[None] < tokens
    assert float(masked_var(values, mask)) == 0.0
    assert float(masked_mean(values, mask)) == (3.0 if tokens else 0.0)
    assert whiten(values, mask).isfinite().all()
    assert whiten(values, mask)[mask].tolist() == [0.0] * tokens


def test_equal_values_whiten_to_zero_and_not_to_rounding_noise() -> None:
    values = torch.full((16, 37), 100.1)
    assert whiten(values, torch.ones_like(values)).abs().max() < 1e-6
