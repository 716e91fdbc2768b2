"""bf16 weights with fp32 products: what a CPU computes that cannot multiply bf16 numbers."""

import gc
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rlhf_engine.job.sections import Lora, Model
from rlhf_engine.model import base as base_module
from rlhf_engine.model.base import Source, load_base
from rlhf_engine.model.merged import MergedCopy
from rlhf_engine.model.precision import product_dtype
from rlhf_engine.model.roles import Roles
from tests.tiny import KINDS, save_tiny

IDS = torch.arange(4, 44).view(2, 20)
CPU = torch.device("cpu")


def policy(folder: Path, dtype: str) -> Roles:
    roles = Roles(load_base(Source(str(folder), None), Model.model_validate({"dtype": dtype}), CPU))
    roles.add_new("policy", Lora(r=4, alpha=8), 0)
    generator = torch.Generator().manual_seed(1)
    for parameter in roles.trained("policy"):
        parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    roles.freeze("policy")
    return roles


def gradients(roles: Roles) -> list[Tensor]:
    roles.hidden("policy", IDS).square().mean().backward()
    return [p.grad for p in roles.trained("policy") if p.grad is not None]


@pytest.fixture
def widened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_module, "product_dtype", lambda storage, device: torch.float32)


@pytest.mark.parametrize(
    ("amx", "avx512", "products"),
    [(True, True, "bf16"), (False, True, "bf16"), (False, False, "fp32")],
)
def test_products_are_bf16_where_the_cpu_can_multiply_them(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, products: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert product_dtype(torch.bfloat16, CPU) is base_module.DTYPES[products]
    assert product_dtype(torch.float32, CPU) is torch.float32


@pytest.mark.usefixtures("widened")
@pytest.mark.parametrize("kind", KINDS)
def test_equals_an_fp32_model_of_the_rounded_weights(tmp_path: Path, kind: str) -> None:
    narrow = policy(save_tiny(tmp_path, kind), "bf16")
    exact = policy(tmp_path, "fp32")
    for parameter in exact.base.model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16().float()
    torch.testing.assert_close(narrow.hidden("policy", IDS), exact.hidden("policy", IDS))
    torch.testing.assert_close(gradients(narrow), gradients(exact))


@pytest.mark.usefixtures("widened")
def test_the_layers_of_the_base_stay_in_bf16(tmp_path: Path) -> None:
    roles = policy(save_tiny(tmp_path), "bf16")
    layer = roles.base.model.model.layers[0].mlp.up_proj.base_layer
    assert isinstance(layer, nn.Linear)
    assert layer.weight.dtype == torch.bfloat16


@pytest.mark.usefixtures("widened")
def test_a_merged_copy_rounds_nothing(tmp_path: Path) -> None:
    roles = policy(save_tiny(tmp_path), "bf16")
    expected = roles.hidden("policy", IDS)
    with torch.no_grad(), MergedCopy(roles).using("policy"):
        merged = roles.backbone(input_ids=IDS).last_hidden_state
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(roles.hidden("policy", IDS), expected, rtol=0, atol=0)


@pytest.mark.usefixtures("widened")
def test_four_bit_layers_multiply_in_fp32_too(tmp_path: Path) -> None:
    spec = Model(dtype="bf16", quantization="nf4")
    model = load_base(Source(str(save_tiny(tmp_path)), None), spec, CPU).model
    assert model.model.layers[0].mlp.up_proj.compute_dtype == torch.float32
    assert model.model(input_ids=IDS).last_hidden_state.dtype == torch.float32


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantized_base_lets_go_of_the_files_that_it_was_read_from(
    tmp_path: Path, quantization: str
) -> None:
    """Else all that was read to be quantized stays resident beside what came of it."""
    spec = Model.model_validate({"dtype": "fp32", "quantization": quantization})
    base = load_base(Source(str(save_tiny(tmp_path)), None), spec, CPU)
    gc.collect()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert base.model.get_input_embeddings().weight.isfinite().all()
