"""Roles on one base: each equals a model that has that role alone, and none leaks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model
from torch import Tensor

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.sections import Lora
from rlhf_engine.model import merged as merged_copy
from rlhf_engine.model.merged import MergedCopy
from rlhf_engine.model.roles import Roles
from tests.tiny import KINDS, tiny_base, tiny_model

IDS = torch.arange(4, 44).view(2, 20)
ROLES = ("policy", "reference", "reward", "value")


def stir(roles: Roles, seed: int = 0) -> None:
    """Give every role weights of its own."""
    generator = torch.Generator().manual_seed(seed)
    for role in roles.configs:
        for parameter in roles.trained(role):
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def four_roles(
    folder: Path,
    kind: str = "llama",
    quantization: str = "none",
    device: str = "cpu",
    dtype: str = "fp32",
) -> Roles:
    roles = Roles(tiny_base(folder, kind, quantization, device, dtype))
    for index, role in enumerate(ROLES):
        roles.add_new(role, Lora(r=4, alpha=8), index)
    for role in ("reward", "value"):
        roles.add_head(role)
    stir(roles)
    return roles


@pytest.mark.parametrize("kind", KINDS)
def test_each_role_equals_a_model_with_that_adapter_alone(tmp_path: Path, kind: str) -> None:
    roles = four_roles(tmp_path, kind)
    for role in ROLES:
        alone = tiny_model(kind, len(roles.base.tokenizer))
        config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        alone = get_peft_model(alone, config).eval()
        weights = {
            name.replace(".weight", ".default.weight"): tensor
            for name, tensor in roles.adapter(role).items()
        }
        missing = alone.get_base_model().load_state_dict(weights, strict=False).unexpected_keys
        assert not missing
        backbone = getattr(alone.get_base_model(), roles.base.model.base_model_prefix)
        expected = backbone(input_ids=IDS, use_cache=False).last_hidden_state
        torch.testing.assert_close(roles.hidden(role, IDS), expected, rtol=1e-5, atol=1e-5)


def test_a_role_without_adapter_is_the_bare_base(tmp_path: Path) -> None:
    roles = four_roles(tmp_path)
    bare = tiny_model("llama", len(roles.base.tokenizer)).eval()
    expected = bare.model(input_ids=IDS, use_cache=False).last_hidden_state
    torch.testing.assert_close(roles.hidden("bare", IDS), expected)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("role", ROLES)
def test_gradients_reach_their_own_role_only(tmp_path: Path, role: str, quantization: str) -> None:
    assert_gradients_stay(four_roles(tmp_path, quantization=quantization), role)


def assert_gradients_stay(roles: Roles, role: str) -> None:
    ids = IDS.to(roles.device)
    roles.freeze(*ROLES)
    loss = roles.hidden(role, ids).pow(2).mean()
    if role in roles.heads:
        loss = loss + roles.scalar(role, roles.hidden(role, ids)).mean()
    loss.backward()
    for other in ROLES:
        grads = [p.grad is not None and bool(p.grad.any()) for p in roles.trained(other)]
        assert all(grads) if other == role else not any(grads), other
    assert all(p.grad is None for n, p in roles.base.model.named_parameters() if "lora" not in n)


def test_a_role_may_have_a_dot_in_its_name(tmp_path: Path) -> None:
    """Runs that are compared have names such as `kl-0.05`."""
    roles = four_roles(tmp_path)
    roles.add_copy("kl-0.05", "policy")
    assert torch.equal(roles.hidden("kl-0.05", IDS), roles.hidden("policy", IDS))
    assert roles.state("kl-0.05").keys() == roles.state("policy").keys()
    with MergedCopy(roles).using("kl-0.05"):
        seen = roles.backbone(input_ids=IDS, use_cache=False).last_hidden_state
    torch.testing.assert_close(seen, roles.hidden("policy", IDS), rtol=1e-4, atol=1e-4)


def test_an_error_inside_a_role_brings_the_one_before_back(tmp_path: Path) -> None:
    roles = four_roles(tmp_path)
    before = roles.hidden("bare", IDS)
    with pytest.raises(ZeroDivisionError), roles.using("policy"):
        _ = 1 / 0
    with roles.using("bare"), roles.using("policy"):
        pass
    assert torch.equal(roles.hidden("bare", IDS), before)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_copy_speaks_as_the_role_and_leaves_no_trace(tmp_path: Path, kind: str) -> None:
    roles = four_roles(tmp_path, kind)
    merged = MergedCopy(roles)
    before = {name: tensor.clone() for name, tensor in roles.base.model.state_dict().items()}
    for role in ("policy", "reference", "policy"):
        expected = roles.hidden(role, IDS)
        with merged.using(role):
            seen = roles.backbone(input_ids=IDS, use_cache=False).last_hidden_state
        torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4)
    after = roles.base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_gpu_without_room_for_a_merged_copy_samples_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantization: str
) -> None:
    roles = four_roles(tmp_path, quantization=quantization)
    expected = roles.hidden("policy", IDS)
    roles.device = torch.device("cuda")
    with_room = MergedCopy(roles)
    monkeypatch.setattr(merged_copy, "free_bytes", lambda _: 2**40)
    with with_room.using("policy"):
        pass
    size = sum(layer.weight.nbytes for layer in with_room._layers.values())
    for room, copied in ((2 * size, True), (2 * size - 1, False)):
        monkeypatch.setattr(merged_copy, "free_bytes", lambda _, room=room: room)
        merged = MergedCopy(roles)
        with merged.using("policy"):
            seen = roles.backbone(input_ids=IDS, use_cache=False).last_hidden_state
        assert bool(merged._layers) == copied
        torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4)


def adapter_gradients(roles: Roles) -> list[Tensor]:
    for parameter in roles.trained("policy"):
        parameter.grad = None
    roles.hidden("policy", IDS.to(roles.device)).pow(2).mean().backward()
    return [p.grad.clone() for p in roles.trained("policy") if p.grad is not None]


def test_quantized_gradients_survive_an_evaluation_and_a_save(tmp_path: Path) -> None:
    """bitsandbytes repacks 4-bit weights for CPU inference and would silently break these."""
    assert_gradients_survive(four_roles(tmp_path, quantization="nf4"))


def test_no_four_bit_layer_is_left_to_be_repacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU where bitsandbytes would do so, whatever CPU this is."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    model = tiny_base(tmp_path, quantization="nf4").model
    layers = [m for m in model.modules() if isinstance(m, Linear4bit)]
    assert len(layers) == 14
    assert Linear4bit(8, 8).support_avx512bf16_for_cpu, "and a new one would be"
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)


@pytest.mark.parametrize("repacks", [True, False])
def test_a_switch_that_bitsandbytes_has_renamed_is_told_where_it_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repacks: bool
) -> None:
    plain = Linear4bit.__init__

    def renamed(self: Linear4bit, *args: Any, **options: Any) -> None:
        plain(self, *args, **options)
        self.repacks_on_cpu = vars(self).pop("support_avx512bf16_for_cpu")

    monkeypatch.setattr(Linear4bit, "__init__", renamed)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: repacks)
    if not repacks:
        tiny_base(tmp_path, quantization="nf4")
        return
    with pytest.raises(
        SpecError, match=r"bitsandbytes .* has no switch .* model\.quantization = none"
    ):
        tiny_base(tmp_path, quantization="nf4")


def assert_gradients_survive(roles: Roles) -> None:
    ids = IDS.to(roles.device)
    roles.freeze("policy")
    before = adapter_gradients(roles)
    roles.base.model.eval()
    with torch.no_grad():
        roles.hidden("policy", ids)
        with MergedCopy(roles).using("policy"):
            roles.backbone(input_ids=ids, use_cache=False)
    roles.base.model.state_dict()
    after = adapter_gradients(roles)
    assert before
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_quantized_layers_equal_those_of_a_dequantized_base(tmp_path: Path) -> None:
    assert_as_dequantized(tmp_path, "cpu")


def assert_as_dequantized(folder: Path, device: str) -> None:
    """Outputs and gradients of an NF4 base are those of a plain one with the same values."""
    from bitsandbytes.functional import dequantize_4bit

    roles = four_roles(folder / "a", quantization="nf4", device=device)
    plain = four_roles(folder / "b", device=device)
    quantized = dict(roles.base.model.named_modules())
    for name, module in plain.base.model.named_modules():
        weight = getattr(quantized.get(name), "weight", None)
        if type(weight).__name__ == "Params4bit":
            module.weight.data.copy_(dequantize_4bit(weight.data, weight.quant_state))
    for each in (roles, plain):
        stir(each)
        each.freeze("policy")
    ids = IDS.to(roles.device)
    for role in (*ROLES, "bare"):
        found, expected = (each.hidden(role, ids) for each in (roles, plain))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for a, b in zip(adapter_gradients(roles), adapter_gradients(plain), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
