"""How much four roles add to a real base, from its shape alone: nothing is downloaded."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen2Config

from rlhf_engine.job.sections import Lora
from rlhf_engine.model.base import Base
from rlhf_engine.model.roles import Roles


def llama(
    hidden: int, inner: int, layers: int, heads: int, groups: int, words: int, tied: bool
) -> PretrainedConfig:
    return LlamaConfig(
        vocab_size=words,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        tie_word_embeddings=tied,
    )


def qwen(hidden: int, inner: int, layers: int, heads: int) -> PretrainedConfig:
    return Qwen2Config(
        vocab_size=151936,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )


SHAPES = {
    "SmolLM2-135M": llama(576, 1536, 30, 9, 3, 49152, tied=True),
    "Qwen2.5-0.5B": qwen(896, 4864, 24, 14),
    "Qwen2.5-1.5B": qwen(1536, 8960, 28, 12),
    "Qwen2.5-3B": qwen(2048, 11008, 36, 16),
    "Llama-3.1-8B": llama(4096, 14336, 32, 32, 8, 128256, tied=False),
}


def added(shape: str, r: int, targets: str = "all-linear") -> float:
    """Parameters of four adapters and two heads as a share of the base's."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(SHAPES[shape])
        size = sum(p.numel() for p in model.parameters())
        roles = Roles(Base(shape, model, cast(Any, SimpleNamespace()), (2,), 0))
        lora = Lora(r=r, targets=targets)
        for role in ("policy", "reward"):
            roles.add_new(role, lora, 0)
        roles.add_head("reward")
        roles.add_copy("reference", "policy")
        roles.add_copy("value", "reward")
    own = sum(p.numel() for role in roles.configs for p in roles.trained(role))
    assert own + size == sum(p.numel() for p in model.parameters()) + 2 * roles.hidden_size
    return own / size


@pytest.mark.parametrize(
    ("shape", "r"),
    [
        ("Llama-3.1-8B", 16),
        ("SmolLM2-135M", 3),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("Qwen2.5-3B", 8), ("Qwen2.5-1.5B", 8), ("Qwen2.5-0.5B", 6))
        ),
    ],
)
def test_four_roles_add_less_than_three_per_cent(shape: str, r: int) -> None:
    """On every linear layer; the smaller the base, the smaller the rank that keeps to it."""
    assert 0.005 < added(shape, r) < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["Qwen2.5-3B", "SmolLM2-135M"])
def test_the_default_rank_adds_more_than_that_to_a_small_base(shape: str) -> None:
    """At the default r = 16 the promise is one of 8B and more; below, `lora.r` decides."""
    assert Lora().r == 16
    assert added(shape, Lora().r) > 0.03
