"""4-bit layers on CUDA: outputs and gradients are those of the weights they stand for."""

from pathlib import Path

import pytest

from rlhf_engine.rollout import CachedRollout, RolloutBackend
from rlhf_engine.rollout.static import StaticRollout
from tests.model import test_leakage, test_roles
from tests.model.test_roles import ROLES
from tests.stages import test_quantized

QUANTIZATIONS = ("none", "nf4")


@pytest.fixture(autouse=True)
def exact_products(exact: None) -> None:
    """Everything here is compared number by number."""


def test_outputs_and_gradients_equal_those_of_a_dequantized_base(tmp_path: Path) -> None:
    test_roles.assert_as_dequantized(tmp_path, "cuda")


@pytest.mark.parametrize("case", test_quantized.CASES)
def test_gradients_of_every_stage_equal_those_of_a_dequantized_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    test_quantized.assert_as_dequantized(tmp_path, monkeypatch, case, "cuda")


def test_gradients_survive_an_evaluation_and_a_save(tmp_path: Path) -> None:
    test_roles.assert_gradients_survive(
        test_roles.four_roles(tmp_path, quantization="nf4", device="cuda")
    )


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("role", ROLES)
def test_gradients_reach_their_own_role_only(tmp_path: Path, role: str, quantization: str) -> None:
    roles = test_roles.four_roles(tmp_path, quantization=quantization, device="cuda")
    test_roles.assert_gradients_stay(roles, role)


@pytest.mark.parametrize("make", [CachedRollout, StaticRollout])
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("trained", ROLES)
def test_what_one_role_does_leaves_no_trace_in_the_others(
    tmp_path: Path, trained: str, quantization: str, make: type[RolloutBackend]
) -> None:
    roles = test_leakage.four_roles_with_heads(tmp_path / "base", "llama", quantization, "cuda")
    test_leakage.assert_no_trace(roles, trained, tmp_path / "adapter", make)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_first_ratios_of_a_quantized_policy_are_one(tmp_path: Path, dtype: str) -> None:
    test_quantized.assert_first_ratios_are_one(tmp_path, dtype, "cuda")
