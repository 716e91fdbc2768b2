"""What a PPO step records and steers by, against the responses that it recorded."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_engine.job.knobs import knob_values
from rlhf_engine.rl.controllers import adaptive_coef
from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.state import run_state
from rlhf_engine.stages.asking import Answer
from rlhf_engine.stages.ppo import PpoStage
from tests.stages.inputs import build, make_inputs, make_spec
from tests.stages.inside import Inside
from tests.stages.test_no_logits import Phases

BATCH, TARGET, HORIZON = 8, 0.3, 50.0
PPO = f"""
stage = "ppo"
policy = "builtin:tiny-llama"
device = "cpu"
threads = 1
[model]
dtype = "fp32"
[data]
path = "builtin:demo-prompts"
max_rows = 40
max_prompt_tokens = 24
[reward]
score = "rule:vowels"
[ppo]
steps = 5
batch_size = {BATCH}
epochs = 2
minibatches = 2
missing_eos = "none"
advantage = "rloo"
[ppo.kl]
coef = 0.1
controller = "adaptive"
target = {TARGET}
horizon = {HORIZON}
[ppo.sampling]
max_new_tokens = 10
[ppo.optimizer]
lr = 0.01
"""


@pytest.mark.parametrize(("value", "measured", "updated"), [("separate", 3, 2), ("shared", 2, 1)])
def test_policy_and_value_on_one_trunk_take_one_forward_pass(
    tmp_path: Path, value: str, measured: int, updated: int
) -> None:
    """Of each micro-batch: policy, reference and value are measured, policy and value trained."""
    spec = make_spec("ppo", make_inputs(tmp_path), value=value)
    stage = build(spec, tmp_path, Phases)
    assert isinstance(stage, PpoStage)
    passes: Counter[str] = Counter()
    stage._roles.backbone.register_forward_pre_hook(lambda *_: passes.update([Phases.now]))
    stage.step(1, knob_values(spec))
    minibatch = spec.ppo.batch_size // spec.ppo.minibatches
    micro_batches = spec.ppo.minibatches * -(-minibatch // spec.ppo.micro_batch_size)
    assert passes["measure"] == measured * micro_batches
    assert passes["update"] == updated * micro_batches * spec.ppo.epochs


def test_the_mismatch_is_the_mean_distance_of_both_log_probs(tmp_path: Path) -> None:
    """Of what sampling saw and what the training forward says, over all tokens of the batch."""
    inputs = make_inputs(tmp_path)
    spec = make_spec("ppo", inputs)
    stage = build(spec, tmp_path)
    assert isinstance(stage, PpoStage)
    rollout, told = stage._rollout, {}

    def perturbed(*args: Any) -> list[Answer]:
        answers = rollout(*args)
        found = []
        for row, answer in enumerate(answers):
            moved = [
                logp + 0.01 * (-1) ** place * (1 + row + place)
                for place, logp in enumerate(answer.response.sampled_logp)
            ]
            told[row] = moved
            found.append(replace(answer, response=replace(answer.response, sampled_logp=moved)))
        return found

    stage._rollout = perturbed  # type: ignore[method-assign]
    record = stage.step(1, knob_values(spec))
    distances = [
        abs(ours - theirs)
        for row, sample in enumerate(record.samples)
        for ours, theirs in zip(sample.logp, told[row], strict=True)
    ]
    assert len(record.samples) == spec.ppo.batch_size
    expected = sum(distances) / len(distances)
    assert expected > 0.01
    assert record.metrics["logp_mismatch"] == pytest.approx(expected, rel=1e-5)


def test_each_step_runs_with_the_coefficient_that_the_step_before_it_asks_for(
    tmp_path: Path,
) -> None:
    """From that step's KL in nats a response (k1), not a token."""
    inside = Inside(tmp_path / "home")
    preset = inside.home / "ppo.toml"
    preset.write_text(PPO)
    run = inside.run(preset)
    assert run_state(run).word == "done", run_state(run).detail
    reader = StoreReader.open(run.store)
    assert reader is not None
    with reader:
        rows = reader.steps()
        samples = [reader.samples(step=row.step) for row in rows]
    assert rows[0].knobs["kl_coef"] == 0.1
    for row, spoken, following in zip(rows, samples, rows[1:], strict=False):
        kl = row.metrics["kl"]
        nats = [
            sum(p - q for p, q in zip(s.sample.logp, s.sample.ref_logp, strict=True))
            for s in spoken
        ]
        assert kl == pytest.approx(sum(nats) / BATCH, rel=1e-4, abs=1e-5)
        expected = adaptive_coef(row.knobs["kl_coef"], kl, TARGET, BATCH, HORIZON)
        assert following.knobs["kl_coef"] == expected
    moved = [row.knobs["kl_coef"] for row in rows]
    assert min(moved) < 0.1, "the first KL is 0"
    errors = [row.metrics["kl"] / TARGET - 1 for row in rows[:-1]]
    assert any(error > 0.2 for error in errors), "and it meets the bound from above"
    assert len(set(moved)) == len(moved)
