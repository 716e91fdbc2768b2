"""Data parallel: two processes give what one gives with the same global batch."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load

from rlhf_engine.job.presets import load_preset
from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import create, start_engine
from rlhf_engine.runs.lock import is_held
from rlhf_engine.runs.reader import StoreReader
from tests.engine.conftest import Lab

FP32 = ("model.dtype=fp32",)
ROUNDING = 2e-4
# One minus a ratio near one, and weights after AdamW where a gradient is almost zero: both magnify
# sums in another order.
MAGNIFIED = 1e-3
# Counts of tokens beyond a threshold jump where a token lies on it.
COUNTS = ("clip_fraction", "value_clip_fraction")


@contextmanager
def two_processes(lab: Lab, run: RunDir) -> Iterator[subprocess.Popen[bytes]]:
    """What `accelerate launch --num_processes 2 -m rlhf_engine RUN` starts, on the CPU."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node=2", "-m", "rlhf_engine", str(run.path)]
    with run.log.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
    try:
        lab.until(lambda: is_held(run.lock) or process.poll() is not None, "the first process")
        yield process
    finally:
        process.terminate()
        process.wait()


def trained_by_two(lab: Lab, preset: str, *overrides: str) -> RunDir:
    (run,) = create(lab.home, load_preset(preset, list(overrides)), "two")
    with two_processes(lab, run) as process:
        assert process.wait() == 0, run.log.read_text()
    return run


def same(lab: Lab, one: RunDir, two: RunDir) -> None:
    for step, figures in lab.figures(one).items():
        for name in figures.keys() - COUNTS:
            value = figures[name]
            other = lab.figures(two)[step][name]
            near = MAGNIFIED if name == "explained_variance" else ROUNDING
            assert math.isclose(value, other, rel_tol=near, abs_tol=near), (step, name)
    ours, theirs = (load(lab.weights(run)) for run in (one, two))
    for name, tensor in ours.items():
        # As vectors: AdamW magnifies a sum in another order where one gradient is almost zero.
        away = float((tensor - theirs[name]).norm() / tensor.norm())
        assert away < MAGNIFIED, (name, away)


@pytest.mark.parametrize(
    "overrides",
    [
        ("ppo.value=separate",),
        pytest.param(("ppo.advantage=rloo", "ppo.group_size=4"), marks=pytest.mark.slow),
        # At the preset's high rate, rounding decides a token of the third step on one processor.
        pytest.param(
            ("ppo.value=shared", "ppo.micro_batch_size=1", "ppo.optimizer.lr=5e-4"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_two_processes_equal_one(lab: Lab, overrides: tuple[str, ...]) -> None:
    settings = (*FP32, "ppo.steps=4", *overrides)
    alone = lab.start("smoke", *settings)
    lab.ended(alone)
    together = trained_by_two(lab, "smoke", *settings)
    assert lab.figures(together).keys() == {1, 2, 3, 4}
    same(lab, alone, together)


TUNING = """
stage = "STAGE"
policy = "builtin:tiny-llama"
device = "cpu"
threads = 1
[model]
dtype = "fp32"
[data]
path = "ROWS"
eval_rows = 5
max_tokens = 64
[lora]
r = 4
[STAGE.batches]
batch_size = 6
micro_batch_size = 2
max_steps = 4
eval_every = 2
[STAGE.optimizer]
lr = 0.005
"""
OWN_ANSWERS = """
[dpo]
sample_every = 2
sample_prompts = 4
[dpo.sampling]
max_new_tokens = 8
"""


@pytest.mark.parametrize(
    "stage", ["sft", *(pytest.param(s, marks=pytest.mark.slow) for s in ("reward", "dpo"))]
)
def test_two_processes_tune_as_one_does(lab: Lab, tmp_path: Path, stage: str) -> None:
    """Rows of unequal length, and held-out rows that no number of processes divides."""
    rows = tmp_path / "pairs.jsonl"
    pairs = [
        {"prompt": f"say {i}", "chosen": "yes " * (1 + i % 5), "rejected": "no " * (1 + i % 3)}
        for i in range(29)
    ]
    rows.write_text("\n".join(map(json.dumps, pairs)))
    preset = tmp_path / f"{stage}.toml"
    text = TUNING + (OWN_ANSWERS if stage == "dpo" else "")
    preset.write_text(text.replace("STAGE", stage).replace("ROWS", str(rows)))
    alone = lab.start(preset)
    assert lab.ended(alone).word == "done"
    together = trained_by_two(lab, str(preset))
    assert lab.figures(together).keys() == {1, 2, 3, 4}
    assert any(name.startswith("eval_") for name in lab.figures(together)[2])
    same(lab, alone, together)


def test_commands_and_knobs_reach_all_processes_at_the_same_step(lab: Lab) -> None:
    # Few steps: after many, a token lies so near the edge of its draw that rounding decides it.
    settings = (*FP32, "ppo.steps=8", "checkpoints.every=4")
    (run,) = create(lab.home, load_preset("smoke", list(settings)), "steered")
    with two_processes(lab, run) as process:
        lab.at_step(run, 2)
        for name, value in (("kl_coef", 0.5), ("lr", 3e-4), ("temperature", 0.8)):
            inbox.send(run.inbox, "set", {"knob": name, "value": value}, "test")
        assert process.wait() == 0, run.log.read_text()
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        changed = [k for k in reader.knobs() if k.source == "command"]
    assert len(changed) == 3
    plan = ", ".join(f'{{step = {k.step}, knob = "{k.name}", value = {k.new}}}' for k in changed)
    alone = lab.start("smoke", *settings, f"changes=[{plan}]")
    lab.ended(alone)
    same(lab, alone, run)


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_in_one(lab: Lab) -> None:
    settings = (*FP32, "ppo.steps=8", "checkpoints.every=2")
    (run,) = create(lab.home, load_preset("smoke", list(settings)), "moved")
    with two_processes(lab, run):
        lab.at_step(run, 3)
        inbox.send(run.inbox, "stop", {}, "test")
        assert lab.ended(run).word == "stopped"
    start_engine(run)
    lab.until(lambda: lab.step_of(run) == 8, "the end")
    lab.ended(run)
    alone = lab.start("smoke", *settings)
    lab.ended(alone)
    same(lab, alone, run)
