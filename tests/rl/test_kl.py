import pytest
import torch

from rlhf_engine.rl.kl import Estimator, k1, k2, k3, per_token_kl, sequence_kl
from tests.rl.golden import close, golden

ESTIMATORS: list[Estimator] = ["k1", "k2", "k3"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators_match_the_peers(estimator: Estimator) -> None:
    known = golden("04_kl_estimators")
    close(per_token_kl(estimator, known["logprobs"], known["ref_logprobs"]), known[estimator])


def test_kl_is_summed_over_tokens_and_averaged_over_responses() -> None:
    known = golden("04_kl_estimators")
    logp, ref = known["logprobs"], known["ref_logprobs"]
    everywhere = torch.ones_like(logp)
    close(sequence_kl(k1(logp, ref), everywhere).mean(), known["seq_sum_k1"])
    close(sequence_kl(k3(logp, ref), everywhere).mean(), known["seq_sum_k3"])


def test_expectations_under_the_policy_match_the_exact_kl() -> None:
    known = golden("04_kl_estimators")
    logp, ref = known["cat_logits_p"].log_softmax(-1), known["cat_logits_q"].log_softmax(-1)
    for estimator in ESTIMATORS:
        expected = (logp.exp() * per_token_kl(estimator, logp, ref)).sum(-1)
        close(expected, known[f"cat_E_{estimator}"])
    close((logp.exp() * k1(logp, ref)).sum(-1), known["cat_exact_kl"])


def test_extreme_values_are_exact_in_k1_and_capped_in_k3() -> None:
    known = golden("04_kl_estimators")
    logp, ref = known["ext_logprobs"], known["ext_ref"]
    close(k1(logp, ref), known["ext_unclamped_k1"])
    close(k3(logp, ref), known["ext_verl_k3"])


def test_k3_does_not_overflow_in_float32_and_keeps_small_differences() -> None:
    far = k3(torch.tensor([-200.0, -1e-4]), torch.tensor([-1.0, 0.0]))
    assert far.tolist() == pytest.approx([10.0, 5e-9], rel=0.05)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_equal_policies_have_no_kl(estimator: Estimator) -> None:
    logp = -torch.rand(3, 5)
    assert not per_token_kl(estimator, logp, logp).any()


def test_k2_and_k3_are_never_negative_and_k1_is_signed() -> None:
    logp, ref = torch.tensor([-1.0, -2.0]), torch.tensor([-2.0, -1.0])
    assert k1(logp, ref).tolist() == [1.0, -1.0]
    assert (k2(logp, ref) > 0).all()
    assert (k3(logp, ref) > 0).all()


def test_padding_adds_no_kl_and_an_empty_response_has_none() -> None:
    per_token = torch.tensor([[1.0, 2.0, float("nan")], [float("inf")] * 3])
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    assert sequence_kl(per_token, mask).tolist() == [3.0, 0.0]
