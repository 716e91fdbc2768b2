"""Sampling on a GPU: captured graphs equal eager steps, and training is undisturbed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.sections import Sampling
from rlhf_engine.model.roles import Roles
from rlhf_engine.rollout import CachedRollout, Response, RolloutBackend, make_backend
from rlhf_engine.rollout.choice import StaticWhereItFits
from rlhf_engine.rollout.continuous import ContinuousRollout
from rlhf_engine.rollout.static import StaticRollout
from rlhf_engine.scoring import hidden_states, pack, response_logprobs
from tests.gpu.conftest import cuda_roles
from tests.model.test_roles import stir
from tests.model.test_rollout import PROMPTS, quiet
from tests.tiny import KINDS

Make = Callable[[Roles, int, bool], RolloutBackend]
NOISE = torch.rand((len(PROMPTS), 48), generator=torch.Generator().manual_seed(1))
CLOSE = 1e-3


@pytest.fixture(autouse=True)
def exact_products(exact: None) -> None:
    """Everything here is compared number by number."""


def sampled(backend: RolloutBackend, role: str = "policy", heat: float = 1.3) -> list[Response]:
    return backend.sample(role, PROMPTS, NOISE, heat, quiet)


def eager(roles: Roles, merge: bool, role: str) -> list[Response]:
    """The same buffers and steps, launched one by one."""
    backend = StaticRollout(roles, 6, merge)
    with torch.inference_mode():
        backend._fitting(backend.shape(PROMPTS, NOISE))._graphs = None
    return sampled(backend, role)


def assert_close(found: list[Response], expected: list[Response]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert (a.tokens, a.finished) == (b.tokens, b.finished)
        assert a.sampled_logp == pytest.approx(b.sampled_logp, abs=CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("merge", [True, False])
def test_replayed_graphs_equal_eager_steps(tmp_path: Path, kind: str, merge: bool) -> None:
    roles = cuda_roles(tmp_path, kind)
    backend = StaticRollout(roles, 6, merge)
    # The first rollout captures; later ones replay, after weights and roles have changed too.
    for seed in (0, 0, 1):
        stir(roles, seed)
        for role in ("policy", "other", "bare"):
            assert sampled(backend, role) == eager(roles, merge, role)
            assert_close(sampled(backend, role), sampled(CachedRollout(roles, 6, merge), role))


def test_a_longer_prompt_takes_new_buffers_and_graphs(tmp_path: Path) -> None:
    roles = cuda_roles(tmp_path)
    backend = StaticRollout(roles, 6, True)
    before = sampled(backend)
    longer = [*PROMPTS[:-1], [7] * 100]
    expected = CachedRollout(roles, 6, True).sample("policy", longer, NOISE, 1.3, quiet)
    assert_close(backend.sample("policy", longer, NOISE, 1.3, quiet), expected)
    assert_close(sampled(backend), before)


@pytest.mark.parametrize("merge", [True, False])
def test_graphs_over_4_bit_layers(tmp_path: Path, merge: bool) -> None:
    roles = cuda_roles(tmp_path, quantization="nf4")
    backend = StaticRollout(roles, 6, merge)
    sampled(backend)
    assert sampled(backend) == eager(roles, merge, "policy")


@pytest.mark.parametrize("make", [CachedRollout, StaticRollout, ContinuousRollout])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_sampled_log_probs_are_those_of_the_training_forward(
    tmp_path: Path, make: Make, quantization: str
) -> None:
    roles = cuda_roles(tmp_path, quantization=quantization)
    found = sampled(make(roles, 4, False), heat=0.7)
    rows = list(range(len(found)))
    block = pack(PROMPTS, [r.tokens for r in found], rows, 0, roles.device)
    with torch.no_grad():
        hidden = hidden_states(roles, "policy", block)
        logp = response_logprobs(roles, hidden, block, 0.7).logp.cpu()
    expected = torch.tensor([value for r in found for value in r.sampled_logp])
    torch.testing.assert_close(logp, expected, rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize("make", [CachedRollout, StaticRollout, ContinuousRollout])
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_quantized_layers_train_after_a_rollout_as_before(
    tmp_path: Path, make: Make, quantization: str
) -> None:
    if quantization == "int8" and make is StaticRollout:
        pytest.skip("8-bit layers wait for the device, so that no graph can be captured")
    roles = cuda_roles(tmp_path, quantization=quantization)
    roles.freeze("policy")
    before = gradients(roles)
    sampled(make(roles, 6, True))
    after = gradients(roles)
    assert all(bool(gradient.any()) for gradient in before)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def gradients(roles: Roles) -> list[Tensor]:
    ids = torch.arange(4, 44, device=roles.device).view(2, 20)
    roles.hidden("policy", ids).float().pow(2).mean().backward()
    found = []
    for parameter in roles.trained("policy"):
        assert parameter.grad is not None
        found.append(parameter.grad.clone())
        parameter.grad = None
    return found


def test_continuous_batching_frees_its_cache(tmp_path: Path) -> None:
    roles = cuda_roles(tmp_path)
    backend = ContinuousRollout(roles, 6, True)
    sampled(backend)
    before = torch.cuda.memory_allocated()
    sampled(backend)
    assert torch.cuda.memory_allocated() <= before


def test_auto_is_static_where_it_fits_and_cached_where_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = cuda_roles(tmp_path)
    backend = make_backend(roles, Sampling())
    assert isinstance(backend, StaticWhereItFits)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (0, 1))
    monkeypatch.setattr(torch.cuda, "memory_reserved", torch.cuda.memory_allocated)
    expected = sampled(backend)
    assert backend._static._buffers is None
    monkeypatch.undo()
    assert_close(sampled(backend), expected)
    assert backend._static._buffers is not None


def test_8_bit_models_are_refused_fixed_buffers(tmp_path: Path) -> None:
    roles = cuda_roles(tmp_path, quantization="int8")
    with pytest.raises(SpecError, match="8-bit"):
        make_backend(roles, Sampling(backend="static"))
    assert isinstance(make_backend(roles, Sampling()), CachedRollout)
