"""Sampling: what a response depends on, and on what not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rlhf_engine.job.sections import Lora
from rlhf_engine.model import base as base_module
from rlhf_engine.model.roles import Roles
from rlhf_engine.rollout import CachedRollout, draw
from rlhf_engine.rollout.static import StaticRollout
from rlhf_engine.scoring import hidden_states, pack, response_logprobs
from tests.model.test_roles import stir
from tests.tiny import KINDS, tiny_base

PROMPTS = [[5, 6, 7], [9] * 11, [20, 21, 22, 23, 24], [30], [40, 41], [50] * 7]
# No other size in these models.
VOCABULARY = 2063


def quiet(done: int, total: int) -> None:
    assert done <= total


@pytest.fixture(params=KINDS)
def roles(request: pytest.FixtureRequest, tmp_path: Path) -> Roles:
    found = Roles(tiny_base(tmp_path, request.param))
    found.add_new("policy", Lora(r=4, alpha=8), 0)
    stir(found)
    return found


def test_responses_do_not_depend_on_their_neighbours(roles: Roles) -> None:
    noise = torch.rand((len(PROMPTS), 12), generator=torch.Generator().manual_seed(1))
    together = CachedRollout(roles, 6, True).sample("policy", PROMPTS, noise, 1.0, quiet)
    pairs = CachedRollout(roles, 2, False).sample("policy", PROMPTS, noise, 1.0, quiet)
    back = CachedRollout(roles, 6, True).sample("policy", PROMPTS[::-1], noise.flip(0), 1.0, quiet)[
        ::-1
    ]
    for a, b, c in zip(together, pairs, back, strict=True):
        assert a.tokens == b.tokens == c.tokens
        assert a.sampled_logp == pytest.approx(b.sampled_logp, abs=1e-4)


def test_sampled_log_probs_are_those_of_the_training_forward(roles: Roles) -> None:
    """Left padding while sampling, right padding while training: positions must agree."""
    noise = torch.rand((len(PROMPTS), 12), generator=torch.Generator().manual_seed(2))
    found = CachedRollout(roles, 6, True).sample("policy", PROMPTS, noise, 0.7, quiet)
    rows = list(range(len(found)))
    block = pack(PROMPTS, [r.tokens for r in found], rows, 0, roles.device)
    with torch.no_grad():
        hidden = hidden_states(roles, "policy", block)
        logp = response_logprobs(roles, hidden, block, 0.7).logp
    sampled = torch.tensor([value for r in found for value in r.sampled_logp])
    torch.testing.assert_close(logp, sampled, rtol=1e-4, atol=1e-4)


def test_greedy_draws_equal_generate(roles: Roles) -> None:
    """Noise 0 at a low temperature is not greedy; a near-zero temperature is."""
    noise = torch.full((len(PROMPTS), 10), 0.5)
    found = CachedRollout(roles, 3, True).sample("policy", PROMPTS, noise, 1e-4, quiet)
    for prompt, response in zip(PROMPTS, found, strict=True):
        with roles.using("policy"):
            expected = roles.base.model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=10,
                do_sample=False,
                pad_token_id=0,
            )[0, len(prompt) :].tolist()
        assert response.tokens == expected[: len(response.tokens)]


class Copies(TorchDispatchMode):
    """The largest new tensor of any operation, and those that pair a batch with the vocabulary."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest, self.batched = 0, 0
        self._weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # In inference mode a product arrives whole, before it is decided how to do it.
        if func.overloadpacket in (torch.ops.aten.linear, torch.ops.aten.matmul):
            with self:
                return func.decompose(*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and not self._is_weight(leaf):
                self.largest = max(self.largest, leaf.numel())
        if func.overloadpacket is torch.ops.aten.bmm:
            self.batched += any(VOCABULARY in tensor.shape for tensor in args)
        return result

    def _is_weight(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._weights


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("make", [CachedRollout, StaticRollout])
def test_a_decoded_token_in_bf16_copies_no_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: type[CachedRollout], merge: bool
) -> None:
    """On the CPU torch copies the head once a row for the last column of (B, T, H) states."""
    monkeypatch.setattr(base_module, "product_dtype", lambda storage, device: storage)
    roles = Roles(tiny_base(tmp_path, dtype="bf16", vocabulary=VOCABULARY))
    roles.add_new("policy", Lora(r=4, alpha=8), 0)
    roles.freeze()
    head = roles.vocabulary_head.weight
    assert head.dtype == torch.bfloat16
    assert head.shape[0] == VOCABULARY
    with Copies(roles.base.model) as seen:
        make(roles, 6, merge).sample("policy", PROMPTS, torch.rand(6, 2), 1.0, quiet)
    assert 6 * VOCABULARY <= seen.largest < head.numel()
    assert not seen.batched
    states = torch.zeros(6, 11, roles.hidden_size, dtype=torch.bfloat16)
    with Copies(roles.base.model) as usual:
        torch.nn.functional.linear(states[:, -1:], head)
    assert usual.batched == 1, "the product whose kernel makes those copies"


def test_a_response_ends_with_its_end_token(roles: Roles) -> None:
    noise = torch.rand((6, 300), generator=torch.Generator().manual_seed(3))
    eos = roles.base.eos_ids[0]
    found = CachedRollout(roles, 6, True).sample("policy", PROMPTS, noise, 2.0, quiet)
    assert any(r.finished for r in found)
    for response in found:
        assert response.finished == (response.tokens[-1] == eos)
        assert eos not in response.tokens[:-1]
        assert len(response.tokens) <= 300
        assert len(response.sampled_logp) == len(response.tokens)


def test_sampling_refuses_a_model_in_training_mode(roles: Roles) -> None:
    roles.base.model.train()
    with pytest.raises(RuntimeError, match="eval"):
        CachedRollout(roles, 2, False).sample("policy", PROMPTS, torch.rand(6, 2), 1.0, quiet)


def test_draws_follow_the_distribution() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.7]])).expand(20000, 3)
    noise = torch.rand(20000, generator=torch.Generator().manual_seed(0))
    tokens, logp = draw(logits, noise, 1.0)
    shares = torch.bincount(tokens, minlength=3) / len(tokens)
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.2, 0.7]), atol=0.015, rtol=0.0)
    torch.testing.assert_close(logp.exp(), torch.tensor([0.1, 0.2, 0.7])[tokens])
    edges, _ = draw(logits[:2], torch.tensor([0.0, 1.0 - 1e-7]), 1.0)
    assert edges.tolist() == [0, 2]
