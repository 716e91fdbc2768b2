"""Activation checkpointing: the same gradients for every role, in less memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rlhf_engine.job.errors import SpecError
from rlhf_engine.model.roles import Roles
from rlhf_engine.rollout import CachedRollout
from tests.model.test_roles import ROLES, four_roles
from tests.tiny import KINDS

IDS = torch.randint(4, 250, (3, 24), generator=torch.Generator().manual_seed(3))


def gradients(roles: Roles, *, shared: bool) -> dict[str, list[Tensor]]:
    """Every role's gradients of one loss that runs through the policy, value and reward roles.

    All forward passes come before the backward pass, so that no role is in force in it.
    """
    roles.freeze(*ROLES)
    policy = roles.hidden("policy", IDS)
    value = roles.scalar("value", policy if shared else roles.hidden("value", IDS))
    reward = roles.scalar("reward", roles.hidden("reward", IDS))
    loss = policy.pow(2).mean() + value.pow(2).mean() + reward.sin().mean()
    with roles.using("reference"):
        loss.backward()
    found = {}
    for role in ROLES:
        found[role] = [torch.zeros(()) if p.grad is None else p.grad for p in roles.trained(role)]
        for parameter in roles.trained(role):
            parameter.grad = None
    return found


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_without_it(
    tmp_path: Path, kind: str, shared: bool, quantization: str
) -> None:
    roles = four_roles(tmp_path, kind, quantization)
    plain = gradients(roles, shared=shared)
    assert all(grad.any() for grad in plain["policy"] + plain["reward"])
    assert any(grad.any() for grad in plain["value"])
    assert not any(grad.any() for grad in plain["reference"])
    roles.save_activation_memory()
    for _ in range(2):
        again = gradients(roles, shared=shared)
        for role in ROLES:
            pairs = zip(plain[role], again[role], strict=True)
            assert all(torch.equal(a, b) for a, b in pairs), role


def test_layers_are_made_again_in_training_and_in_nothing_else(tmp_path: Path) -> None:
    roles = four_roles(tmp_path)
    passes: list[bool] = []
    layer = roles.backbone.layers[0]  # type: ignore[index,union-attr]
    layer.mlp.register_forward_pre_hook(lambda *_: passes.append(torch.is_grad_enabled()))  # type: ignore[union-attr]
    noise = torch.rand((2, 6), generator=torch.Generator().manual_seed(0))
    prompts = [[5, 6, 7], [9] * 5]
    before = CachedRollout(roles, 2, False).sample("policy", prompts, noise, 1.0, lambda *_: None)
    count = len(passes)

    roles.save_activation_memory()
    passes.clear()
    after = CachedRollout(roles, 2, False).sample("policy", prompts, noise, 1.0, lambda *_: None)
    assert [r.tokens for r in after] == [r.tokens for r in before]
    assert passes == [False] * count

    passes.clear()
    roles.freeze("policy")
    roles.hidden("policy", IDS).pow(2).mean().backward()
    assert passes == [True, True], "once in the forward pass, once again in the backward pass"


def test_a_model_without_such_layers_is_refused(tmp_path: Path) -> None:
    roles = four_roles(tmp_path)
    plain = nn.Module()
    plain.layers = nn.ModuleList([nn.Linear(4, 4)])
    setattr(roles.base.model, roles.base.model.base_model_prefix, plain)
    with pytest.raises(SpecError, match=r"model\.gradient_checkpointing"):
        roles.save_activation_memory()


PROGRAM = """
import sys, torch
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
from rlhf_engine.job.sections import Lora
from rlhf_engine.memory import ProcessPeak
from rlhf_engine.model.base import Base
from rlhf_engine.model.roles import Roles
torch.set_num_threads(1)
config = LlamaConfig(vocab_size=256, hidden_size=256, intermediate_size=768, num_hidden_layers=12,
                     num_attention_heads=4, num_key_value_heads=4)
model = LlamaForCausalLM(config).eval().requires_grad_(False)
roles = Roles(Base("random", model, None, (0,), 1))
roles.add_new("policy", Lora(r=8), 0)
roles.freeze("policy")
if sys.argv[1] == "checkpointed":
    roles.save_activation_memory()
ids = torch.randint(0, 256, (2, 8))
roles.hidden("policy", ids).pow(2).mean().backward()
memory = ProcessPeak()
memory.reset()
before = memory.read()
ids = torch.randint(0, 256, (16, 128))
roles.hidden("policy", ids).pow(2).mean().backward()
print(memory.read() - before)
"""
# Freed blocks go back to the kernel at once, so that resident memory is what is alive.
EAGER_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def test_activations_take_less_than_a_quarter() -> None:
    """Resident memory that one training pass adds on a random Llama of 12 layers."""
    added = {
        name: int(
            subprocess.run(
                [sys.executable, "-c", PROGRAM, name],
                env={**os.environ, **EAGER_MALLOC},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
        )
        for name in ("plain", "checkpointed")
    }
    assert added["plain"] > 100_000_000, "bytes: the pass is large enough to measure"
    assert added["checkpointed"] < added["plain"] / 4, added
