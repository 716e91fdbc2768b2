"""Roles after rollouts, training, saves and loads: each still equals a model of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_engine.job.sections import Optimizer
from rlhf_engine.model.export import write_adapter
from rlhf_engine.model.roles import Roles
from rlhf_engine.optimizer import AdapterOptimizer
from rlhf_engine.rollout import CachedRollout, RolloutBackend
from tests.model.test_roles import IDS, ROLES, four_roles
from tests.tiny import KINDS, tiny_base

PROMPTS = [[5, 6, 7], [9] * 6, [20]]


def logits(roles: Roles, role: str) -> Tensor:
    """What a role says of every position: scores for a role with a head, else logits."""
    hidden = roles.hidden(role, IDS.to(roles.device))
    if role in roles.heads:
        return roles.scalar(role, hidden)
    head = roles.vocabulary_head
    return torch.nn.functional.linear(hidden, head.weight, head.bias)


@torch.no_grad()
def outputs(roles: Roles) -> dict[str, Tensor]:
    return {role: logits(roles, role) for role in (*ROLES, "bare")}


def four_roles_with_heads(
    folder: Path,
    kind: str,
    quantization: str = "none",
    device: str = "cpu",
    dtype: str = "fp32",
) -> Roles:
    roles = four_roles(folder, kind, quantization, device, dtype)
    for seed, role in enumerate(sorted(roles.heads)):
        generator = torch.Generator().manual_seed(seed)
        weight = roles.heads[role].weight
        weight.data.copy_(torch.randn(weight.shape, generator=generator))
    return roles


def train(roles: Roles, role: str) -> None:
    roles.freeze(role)
    optimizer = AdapterOptimizer(Optimizer(weight_decay=0.1), [roles.trained(role)])
    for _ in range(2):
        logits(roles, role).pow(2).mean().backward()
        optimizer.update(0.01, 1.0)


FORMATS = [
    *((kind, "none", "fp32") for kind in KINDS),
    *(("llama", *form) for form in (("nf4", "fp32"), ("int8", "fp32"), ("none", "bf16"))),
    *(("llama", form, "bf16") for form in ("nf4", "int8")),
]


@pytest.mark.parametrize(("kind", "quantization", "dtype"), FORMATS)
@pytest.mark.parametrize("trained", ROLES)
def test_what_one_role_does_leaves_no_trace_in_the_others(
    tmp_path: Path, kind: str, quantization: str, dtype: str, trained: str
) -> None:
    roles = four_roles_with_heads(tmp_path / "base", kind, quantization, "cpu", dtype)
    assert_no_trace(roles, trained, tmp_path / "adapter", CachedRollout)


def assert_no_trace(
    roles: Roles, trained: str, folder: Path, make: Callable[[Roles, int, bool], RolloutBackend]
) -> None:
    """Bit for bit: it speaks, trains, is written, is read again, and speaks once more."""
    before = outputs(roles)
    noise = torch.rand(len(PROMPTS), 4, generator=torch.Generator().manual_seed(0))
    for merge in (True, False):
        make(roles, 2, merge).sample(trained, PROMPTS, noise, 1.0, lambda *_: None)
    spoken = outputs(roles)
    assert all(torch.equal(spoken[role], before[role]) for role in before)
    train(roles, trained)
    write_adapter(roles, trained, folder)
    roles.add_from("again", folder)
    roles.load_state(trained, {k: v.clone() for k, v in roles.state("again").items()})
    for merge in (True, False):
        make(roles, 2, merge).sample(trained, PROMPTS, noise, 1.0, lambda *_: None)
    after = outputs(roles)
    assert not torch.equal(after[trained], before[trained])
    assert torch.equal(logits(roles, "again"), after[trained])
    for role in after.keys() - {trained}:
        assert torch.equal(after[role], before[role]), role


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", ROLES)
@torch.no_grad()
def test_a_written_role_alone_says_what_it_says_among_four(
    tmp_path: Path, kind: str, role: str
) -> None:
    """Bit for bit as the only role of a base; to fp32 rounding as a plain PEFT model."""
    base = tmp_path / "base"
    roles = four_roles_with_heads(base, kind)
    expected = logits(roles, role)
    write_adapter(roles, role, tmp_path / "adapter")
    alone = Roles(tiny_base(tmp_path / "alone", kind))
    alone.add_from(role, tmp_path / "adapter")
    assert torch.equal(logits(alone, role), expected)
    if role in roles.heads:
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
        expected = expected[:, -1:]
    else:
        model = AutoModelForCausalLM.from_pretrained(base)
    plain = PeftModel.from_pretrained(model, str(tmp_path / "adapter")).eval()
    found = torch.stack([plain(input_ids=row[None], use_cache=False).logits[0] for row in IDS])
    torch.testing.assert_close(found.view(expected.shape), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("role", ROLES)
def test_a_state_brings_a_role_back_whatever_came_between(tmp_path: Path, role: str) -> None:
    roles = four_roles_with_heads(tmp_path, "llama")
    before = outputs(roles)
    state = {name: tensor.clone() for name, tensor in roles.state(role).items()}
    train(roles, role)
    assert not torch.equal(outputs(roles)[role], before[role])
    roles.load_state(role, state)
    after = outputs(roles)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
