"""QLoRA: the gradients of every stage on an NF4 base are those of the dequantized base."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from torch import Tensor

from rlhf_engine.job.knobs import knob_values
from rlhf_engine.job.sections import Lora, Model
from rlhf_engine.model.base import Source, load_base
from rlhf_engine.stages.build import ROUNDING
from tests.stages.inputs import (
    Inputs,
    build,
    inputs_on,
    make_inputs,
    make_spec,
    plain_model,
    run,
    weights,
)

NF4 = {"quantization": "nf4"}
SHARED_UNMERGED: dict[str, Any] = {"value": "shared", "sampling": {"merge": False}}
# Nothing is clipped, so that every update has a gradient.
LOOSE: dict[str, Any] = {"clip": 5.0, "value_clip": 50.0}


def dequantized(inputs: Inputs, folder: Path, *, double: bool, device: str) -> Inputs:
    """The same adapters on a plain base that holds the values of the NF4 base."""
    spec = Model.model_validate({"dtype": "fp32", "double_quant": double, **NF4})
    quantized = load_base(Source(str(inputs.base), None), spec, torch.device(device))
    plain = plain_model(inputs.base, head=False)
    layers = dict(plain.named_modules())
    found = 0
    for name, module in quantized.model.named_modules():
        weight = getattr(module, "weight", None)
        if type(weight).__name__ == "Params4bit":
            layers[name].weight.data.copy_(dequantize_4bit(weight.data, weight.quant_state))
            found += 1
    assert found == 14, "every linear layer of two Llama blocks is in 4 bits"
    plain.save_pretrained(folder / "base")
    quantized.tokenizer.save_pretrained(folder / "base")
    return inputs_on(folder / "base", folder)


def gradients(
    stage: str, inputs: Inputs, home: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> list[Tensor]:
    """Each update's gradients of each group, before they are shortened, over two steps.

    Evaluations and rollouts stand before, between and after the updates.
    """
    seen: list[Tensor] = []
    shorten = torch.nn.utils.clip_grad_norm_

    def spy(group: list[torch.nn.Parameter], longest: float) -> Tensor:
        seen.append(torch.cat([p.grad.flatten().clone() for p in group if p.grad is not None]))
        return shorten(group, longest)

    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.utils, "clip_grad_norm_", spy)
        home.mkdir()
        run(make_spec(stage, inputs, eval_rows=2, **changes), home)
    return seen


CASES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "sft": ("sft", {}, True),
    "reward": ("reward", {}, True),
    "dpo": ("dpo", {}, True),
    "ppo": ("ppo", {"eval_every": 1, **LOOSE}, True),
    "ppo, one trunk": ("ppo", {"eval_every": 1, **LOOSE, **SHARED_UNMERGED}, False),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_equal_those_of_a_dequantized_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    assert_as_dequantized(tmp_path, monkeypatch, case, "cpu")


def assert_as_dequantized(
    folder: Path, monkeypatch: pytest.MonkeyPatch, case: str, device: str
) -> None:
    stage, changes, double = CASES[case]
    inputs = make_inputs(folder)
    (folder / "plain").mkdir()
    plain = dequantized(inputs, folder / "plain", double=double, device=device)
    model, changes = {**NF4, "double_quant": double}, {**changes, "device": device}
    ours = gradients(stage, inputs, folder / "a", monkeypatch, model=model, **changes)
    theirs = gradients(stage, plain, folder / "b", monkeypatch, **changes)
    assert len(ours) == len(theirs) >= 2
    for a, b in zip(ours, theirs, strict=True):
        assert len(a) == len(b)
        assert b.norm() > 0
        assert (a - b).norm() <= 1e-3 * b.norm()


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_the_first_ratios_of_a_quantized_policy_are_one(
    tmp_path: Path, dtype: str, quantization: str
) -> None:
    assert_first_ratios_are_one(tmp_path, dtype, "cpu", quantization)


def assert_first_ratios_are_one(
    folder: Path, dtype: str, device: str, quantization: str = "nf4"
) -> None:
    """One minibatch a step: all that the update shows is what its first minibatch shows."""
    model = {"quantization": quantization, "dtype": dtype}
    once = {"epochs": 1, "minibatches": 1, "batch_size": 6}
    spec = make_spec("ppo", make_inputs(folder), model=model, device=device, **once)
    rounding = ROUNDING[dtype]
    for metrics in run(spec, folder).metrics:
        assert metrics["first_ratio_error"] <= rounding
        assert metrics["approx_kl"] <= rounding
        assert metrics["clip_fraction"] == 0.0
        assert metrics["grad_norm"] > 0.0


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "ppo"])
def test_a_stage_with_eight_bit_moments_learns_about_what_it_learns_with_exact_ones(
    tmp_path: Path, stage: str
) -> None:
    """At a rank where adapters are large enough for bitsandbytes to keep them in 8 bits."""
    inputs = make_inputs(tmp_path)
    moved = []
    for eight_bit in (False, True):
        spec = make_spec(stage, inputs, policy=inputs.base, optimizer={"eight_bit": eight_bit})
        spec = spec.model_copy(update={"lora": Lora(r=64)})
        built = build(spec, tmp_path)
        start, state = weights(built), built.state()
        assert state is not None
        moments = {tensor.dtype for tensor in state.tensors["optimizer"].values()}
        assert (torch.uint8 in moments) == eight_bit
        for step in (1, 2):
            record = built.step(step, knob_values(spec))
            assert all(map(math.isfinite, record.metrics.values()))
            assert not record.warnings
        after = weights(built)
        moved.append({name: after[name] - start[name] for name in start})
    for name, exact in moved[0].items():
        assert exact.norm() > 0
        assert torch.cosine_similarity(moved[1][name].flatten(), exact.flatten(), 0) > 0.9, name
