"""What a GPU keeps between the phases of a step, in the estimate."""

from pathlib import Path

import pytest

from rlhf_engine.job.estimate import estimate
from rlhf_engine.job.footprint import Device, Shape
from rlhf_engine.job.presets import load_preset
from rlhf_engine.job.spec import PpoSpec

GIB = 2**30
SPEC = """
stage = "ppo"
policy = "some/model"
device = "cuda"
[data]
path = "rows.jsonl"
max_prompt_tokens = 500
[reward]
score = "rule:brevity"
[ppo]
batch_size = 32
[ppo.sampling]
max_new_tokens = 100
"""
# About Llama-3.2-1B, with an adapter.
MODEL = Shape(
    linear=973_078_528,
    adapted=973_078_528,
    largest=16_777_216,
    other=262_735_872,
    policy_lora=11_272_192,
    inherited=False,
    reward_lora=0,
    gold_lora=0,
    against_lora=0,
    layers=16,
    hidden=2048,
    intermediate=8192,
    heads=32,
    kv_heads=8,
    head_dim=64,
    vocabulary=128_256,
    stored_bytes=2,
    saved={"fp32": (0, 1_000_000, 200), "bf16": (0, 500_000, 100)},
)
# Two numbers for each of 640 columns, 600 being no whole number of steps.
BUFFERS = 2 * 16 * 32 * 640 * 8 * 64 * 2


def spec_of(folder: Path, *overrides: str) -> PpoSpec:
    path = folder / "spec.toml"
    path.write_text(SPEC)
    spec = load_preset(str(path), list(overrides)).stages[0]
    assert isinstance(spec, PpoSpec)
    return spec


OWNED = ("base", "adapters", "optimizer")


def cache_by_phase(spec: PpoSpec, device: Device) -> dict[str, int]:
    phases = estimate(spec, MODEL, device).phases
    return {phase.name: phase.parts.get("KV cache", 0) for phase in phases}


def test_fixed_buffers_stand_in_every_phase_of_a_step(tmp_path: Path) -> None:
    found = cache_by_phase(spec_of(tmp_path), Device("cuda", GIB // 2, memory=24 * GIB))
    steps = dict.fromkeys(("generate", "judge", "measure", "update"), BUFFERS)
    assert found == {"load model": 0} | steps


def test_a_growing_cache_is_gone_after_sampling(tmp_path: Path) -> None:
    small = Device("cuda", GIB // 2, memory=5 * GIB)
    for spec, device in (
        (spec_of(tmp_path, "ppo.sampling.backend=cached"), Device("cuda", 0, memory=80 * GIB)),
        # Less than four times the buffers is free beside weights and optimizer.
        (spec_of(tmp_path), small),
    ):
        found = cache_by_phase(spec, device)
        assert found.pop("generate") > 0
        assert set(found.values()) == {0}
    static = spec_of(tmp_path, "ppo.sampling.backend=static")
    assert cache_by_phase(static, small)["update"] == BUFFERS


def test_8_bit_layers_cannot_be_captured(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "model.quantization=int8")
    assert cache_by_phase(spec, Device("cuda", 0, memory=80 * GIB))["update"] == 0


@pytest.mark.parametrize("backend", ["auto", "cached"])
def test_a_cpu_keeps_nothing_between_phases(tmp_path: Path, backend: str) -> None:
    spec = spec_of(tmp_path, f"ppo.sampling.backend={backend}", "device=cpu")
    found = cache_by_phase(spec, Device("cpu", GIB))
    assert found.pop("generate") > 0
    assert set(found.values()) == {0}


def test_a_merged_copy_is_made_where_a_gpu_has_room_for_it(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "ppo.sampling.backend=cached")

    def copy(memory: int) -> set[int]:
        phases = estimate(spec, MODEL, Device("cuda", 0, memory=memory)).phases
        return {phase.parts.get("merged copy", 0) for phase in phases[1:]}

    (size,) = copy(80 * GIB)
    owned = sum(estimate(spec, MODEL, Device("cuda", 0)).phases[1].parts[p] for p in OWNED)
    assert size > 0
    assert copy(owned + 2 * size) == {size}
    assert copy(owned + 2 * size - 1) == {0}
    assert copy(0) == {size}, "where nobody knows the memory, as if there were room"


@pytest.mark.parametrize(
    ("overrides", "users"),
    [
        # Forward passes, the thread of backward passes, the stream of captured graphs.
        ((), 3),
        (("ppo.sampling.backend=cached",), 2),
    ],
)
def test_each_thread_and_stream_has_a_workspace(
    tmp_path: Path, overrides: tuple[str, ...], users: int
) -> None:
    device = Device("cuda", 0, memory=80 * GIB, workspace=1000)
    load, *steps = estimate(spec_of(tmp_path, *overrides), MODEL, device).phases
    assert "workspaces" not in load.parts
    assert {phase.parts["workspaces"] for phase in steps} == {users * 1000}
