"""Every stage in a real process: it learns, it hands on, and a killed run repeats itself."""

import json
import math
import random
import statistics
import time
from pathlib import Path

import pytest

from rlhf_engine.job.metrics import CLOCKED, metrics_of
from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import start_engine
from rlhf_engine.runs.lineage import replay
from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.state import run_state
from tests.engine.conftest import Lab

PAIRS = Path(__file__).parents[3] / "shared" / "data" / "hh_harmless_1200.jsonl.gz"

PIPELINE = """
name = "tiny"
device = "cpu"
threads = 1
[model]
dtype = "fp32"
[checkpoints]
every = 2
[[stages]]
stage = "sft"
policy = "builtin:tiny-llama"
[stages.data]
path = "builtin:demo-demonstrations"
max_rows = 40
eval_rows = 8
max_tokens = 128
[stages.lora]
r = 4
[stages.sft.batches]
batch_size = 4
micro_batch_size = 2
[stages.sft.optimizer]
lr = 0.01
schedule = "cosine"
warmup_steps = 2
[[stages]]
stage = "collect"
policy = "stage:sft"
[stages.data]
path = "builtin:demo-prompts"
max_rows = 24
max_prompt_tokens = 32
[stages.reward]
score = "rule:vowels"
[stages.collect]
prompts_per_step = 4
[stages.collect.sampling]
max_new_tokens = 12
[[stages]]
stage = "reward"
policy = "stage:sft"
[stages.data]
path = "stage:collect"
eval_rows = 6
max_tokens = 96
[stages.reward.batches]
epochs = 4
batch_size = 6
micro_batch_size = 2
[stages.reward.optimizer]
lr = 0.01
[[stages]]
stage = "ppo"
policy = "stage:sft"
[stages.data]
path = "builtin:demo-prompts"
max_rows = 60
eval_rows = 8
max_prompt_tokens = 32
[stages.reward]
score = "stage:reward"
gold = ["rule:vowels"]
[stages.ppo]
steps = 6
batch_size = 8
epochs = 2
minibatches = 2
micro_batch_size = 2
missing_eos = "none"
[stages.ppo.sampling]
max_new_tokens = 12
[stages.ppo.optimizer]
lr = 0.005
[[stages]]
stage = "dpo"
policy = "stage:ppo" # so that it waits for its turn to be steered and killed
[stages.data]
path = "stage:collect"
eval_rows = 6
max_tokens = 96
[stages.dpo]
sample_every = 3
sample_prompts = 4
[stages.dpo.batches]
epochs = 4
batch_size = 6
micro_batch_size = 2
eval_every = 5
[stages.dpo.sampling]
max_new_tokens = 12
[stages.dpo.optimizer]
lr = 0.005
[[stages]]
stage = "evaluate"
policy = "stage:sft"
[stages.data]
path = "builtin:demo-heldout"
max_rows = 12
max_prompt_tokens = 32
[stages.reward]
score = "stage:reward"
gold = ["rule:vowels"]
[stages.evaluate]
against = ["stage:ppo", "stage:dpo"]
prompts_per_step = 4
bootstrap = 200
[stages.evaluate.sampling]
max_new_tokens = 12
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(PIPELINE)
    return path


@pytest.mark.cold
@pytest.mark.parametrize(
    ("kills", "seed"), [(1, 0), *(pytest.param(4, n, marks=pytest.mark.slow) for n in (1, 2))]
)
def test_a_pipeline_hands_each_output_on_and_repeats_itself_under_kills(
    lab: Lab, pipeline: Path, kills: int, seed: int
) -> None:
    """The whole chain, steered and with every engine killed at random steps; each run is then
    replayed in peace."""
    chance = random.Random(seed)
    harried = lab.start_all(pipeline, "sft.batches.epochs=3", name="harried")
    for run in harried:
        harry(lab, run, chance, kills)
        assert run_state(run).word == "done", run_state(run).detail
        if run.spec().stage in ("sft", "reward", "ppo", "dpo"):
            assert_harried(run)
    for run in harried:
        calm = replay(run)
        assert lab.ended(calm).word == "done", run_state(calm).detail
        assert lab.figures(calm) == lab.figures(run), run.id
        if run.checkpoints.exists() and any(run.checkpoints.iterdir()):
            assert lab.weights(calm) == lab.weights(run), run.id
            assert calm.spec().changes, f"{run.id} was not steered"

    sft, collect, reward, ppo, dpo, evaluate = harried
    for run in (sft, reward, ppo, dpo):
        reported = {name for row in lab.steps(run) for name in row.metrics}
        known = {name for name in reported if not name.endswith(CLOCKED)}
        assert known == set(metrics_of(run.spec())), "what guards may watch"
    losses = [row.metrics["loss"] for row in lab.steps(sft)]
    assert losses[-1] < losses[0] - 0.3
    assert "eval_loss" in lab.steps(sft)[-1].metrics
    pairs = [json.loads(s) for s in (collect.output / "pairs.jsonl").read_text().splitlines()]
    assert pairs
    assert all(pair["chosen_score"] > pair["rejected_score"] for pair in pairs)
    assert {"loss", "accuracy", "margin", "eval_accuracy"} <= lab.steps(reward)[-1].metrics.keys()
    first = lab.steps(ppo)[0].metrics
    assert first["kl"] == 0.0
    assert first["first_ratio_error"] <= 1e-5
    assert abs(first["score"]) < 1e-5, "scores are normalised on the starting policy's batch"
    metrics = [row.metrics for row in lab.steps(dpo)]
    assert (metrics[0]["loss"], metrics[0]["margin"]) == (pytest.approx(math.log(2)), 0.0)
    assert [step for step, row in enumerate(metrics, 1) if "kl" in row][:3] == [1, 4, 7]
    assert metrics[0]["kl"] == 0.0
    assert metrics[-1]["kl"] > 0.0
    assert statistics.mean(row["accuracy"] for row in metrics[-4:]) > 0.5
    assert {"eval_accuracy", "eval_kl", "eval_loss", "eval_margin"} <= metrics[4].keys() & metrics[
        -1
    ].keys()
    with StoreReader.open(evaluate.store) as reader:  # type: ignore[union-attr]
        result = json.loads(reader.facts()["result"])
    assert [row["policy"] for row in result["rows"]] == ["sft", "ppo", "dpo"]
    assert result["rows"][0]["kl"] == 0.0
    gold = next(d for d in result["differences"] if d["metric"] == "gold")
    assert gold["low"] <= gold["mean"] <= gold["high"]
    assert (ppo.output / "README.md").read_text().count(sft.id) >= 1


def harry(lab: Lab, run: RunDir, chance: random.Random, kills: int) -> None:
    """Change a knob of a run that is under way, kill it at a random step and resume it.

    The first kill comes when there is a checkpoint, later ones also while the engine starts.
    """
    other = {
        "ppo": ("kl_coef", 0.1),
        "dpo": ("beta", 0.5),
        "collect": ("temperature", 1),
        "evaluate": ("temperature", 1),
    }
    stage = run.spec().stage
    knob, most = other.get(stage, ("lr", 0.01))
    first = chance.randint(1, 2) if stage == "evaluate" else chance.randint(3, 4)
    for kill in range(kills):
        # Killed while it does the step after that; each second step leaves a checkpoint.
        target = first if kill == 0 else lab.step_of(run) + chance.randint(0, 2)
        lab.at_step(run, target - 2)
        inbox.send(run.inbox, "set", {"knob": knob, "value": most * chance.uniform(0.5, 1.0)})
        lab.at_step(run, target)
        time.sleep(chance.uniform(0.0, 0.1))
        if run_state(run).ended:
            break
        lab.kill(run)
        if run_state(run).word == "lost":
            start_engine(run)
    lab.ended(run)


def assert_harried(run: RunDir) -> None:
    """It went on from a checkpoint, and its knob was turned while it ran."""
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        resumed = [session.resumed_from_step or 0 for session in reader.sessions()]
        turned = [knob.step for knob in reader.knobs() if knob.source == "command"]
    assert max(resumed) > 0, f"{run.id} was killed before its first checkpoint: {resumed}"
    assert max(turned) > 1, f"{run.id} was steered before its first step: {turned}"


@pytest.mark.parametrize(
    "overrides",
    [
        ("ppo.advantage=rloo",),
        ("ppo.advantage=grpo", "ppo.kl.estimator=k3"),
        ("ppo.advantage=dr_grpo",),
        ("ppo.value=shared", "ppo.whiten_rewards=true"),
        ("model.quantization=nf4", "ppo.normalise_score=mean_std"),
        ("model.dtype=bf16", "ppo.kl.controller=adaptive"),
    ],
)
def test_ppo_in_its_other_forms(lab: Lab, overrides: tuple[str, ...]) -> None:
    run = lab.start("smoke", "ppo.steps=3", "ppo.batch_size=8", *overrides)
    assert lab.ended(run).word == "done", run_state(run).detail
    rows = lab.steps(run)
    assert all(row.metrics["first_ratio_error"] <= 1e-5 for row in rows)
    assert rows[0].metrics["kl"] == 0.0
    assert rows[-1].metrics["kl"] != 0.0
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        assert not [e for e in reader.events() if e.level == "warn"]


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_sft_on_a_quantized_base(lab: Lab, pipeline: Path, quantization: str) -> None:
    run = lab.start(pipeline, f"sft:model.quantization={quantization}", "sft.batches.max_steps=4")
    assert lab.ended(run).word == "done", run_state(run).detail
    rows = lab.steps(run)
    assert rows[-1].metrics["loss"] < rows[0].metrics["loss"]


@pytest.mark.skipif(not PAIRS.is_file(), reason="the preference pairs are not beside the checkout")
@pytest.mark.parametrize("stage", ["reward", "dpo"])
def test_real_preference_pairs_are_trained_on_without_conversion(
    lab: Lab, tmp_path: Path, stage: str
) -> None:
    preset = tmp_path / "pairs.toml"
    preset.write_text(
        f'stage = "{stage}"\npolicy = "builtin:tiny-llama"\nthreads = 1\ndevice = "cpu"\n'
        '[model]\ndtype = "fp32"\n[data]\npath = "pairs"\neval_rows = 100\nmax_tokens = 256\n'
        "max_prompt_tokens = 128\n"
        f"[{stage}.batches]\nmax_steps = 5\n"
    )
    run = lab.start(preset, f"data.path={PAIRS}")
    assert lab.ended(run).word == "done", run_state(run).detail
    assert "eval_accuracy" in lab.steps(run)[-1].metrics
