"""Direct preference optimisation against plain transformers and PEFT, one token at a time."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlhf_engine.job.knobs import knob_values
from rlhf_engine.job.spec import DpoSpec
from tests.stages.by_hand import Plain
from tests.stages.inputs import (
    PROMPTS,
    Inputs,
    build,
    make_inputs,
    make_spec,
    run,
    same_weights,
    weights,
)
from tests.stages.test_tuning_by_hand import BATCHES, Tuned, encoded, rows
from tests.tiny import KINDS

TEMPERATURE = 0.7


class PolicyAndReference:
    """Two models of their own, which start as one."""

    def __init__(self, inputs: Inputs, spec: DpoSpec) -> None:
        self.policy = Tuned(Plain(inputs.base, inputs.policy), spec.dpo)
        self.reference = Plain(inputs.base, inputs.policy)

    def log_ratio(self, ids: Sequence[int], asked: int) -> tuple[Tensor, Tensor]:
        """log pi - log pi_ref of what follows the prompt, and log pi; each token on its own."""
        own = token_logps(self.policy.plain, ids, asked)
        with torch.no_grad():
            theirs = token_logps(self.reference, ids, asked)
        return (own - theirs).sum(), own.sum()


def token_logps(model: Plain, ids: Sequence[int], asked: int) -> Tensor:
    found = [
        (model(ids[:place]) / TEMPERATURE).log_softmax(-1)[ids[place]]
        for place in range(asked, len(ids))
    ]
    return torch.stack(found)


def mean(values: Sequence[Tensor]) -> float:
    return float(torch.stack(list(values)).mean().detach())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_equal_those_by_hand_while_beta_is_turned(
    tmp_path: Path, kind: str, loss: str
) -> None:
    inputs = make_inputs(tmp_path, kind)
    spec = make_spec("dpo", inputs, batches=BATCHES, loss=loss, sample_prompts=0)
    stage, models = build(spec, tmp_path), PolicyAndReference(inputs, spec)
    pairs = [
        [encoded(inputs, row["prompt"], row[side]) for side in ("chosen", "rejected")]
        for row in rows(inputs)
    ]
    for step, beta in ((1, 0.1), (2, 0.5), (3, 0.3)):
        losses, better, worse, logps = [], [], [], []
        for chosen, rejected in pairs:
            up, logp = models.log_ratio(*chosen)
            down, _ = models.log_ratio(*rejected)
            if loss == "sigmoid":
                losses.append(-torch.log(torch.sigmoid(beta * (up - down))))
            else:
                spoken = [len(ids) - asked for ids, asked in (chosen, rejected)]
                losses.append((up / spoken[0] - down / spoken[1] - 1 / (2 * beta)) ** 2)
            better.append(beta * up)
            worse.append(beta * down)
            logps.append(logp)
        found = stage.step(step, {**knob_values(spec), "beta": beta}).metrics
        assert found["loss"] == pytest.approx(mean(losses), rel=1e-4)
        assert found["chosen_reward"] == pytest.approx(mean(better), rel=1e-3, abs=1e-5)
        assert found["rejected_reward"] == pytest.approx(mean(worse), rel=1e-3, abs=1e-5)
        assert found["margin"] == pytest.approx(mean(better) - mean(worse), rel=1e-3, abs=1e-5)
        assert found["chosen_logp"] == pytest.approx(mean(logps), rel=1e-5)
        if step > 1:
            right = [float(b > w) for b, w in zip(better, worse, strict=True)]
            assert found["accuracy"] == pytest.approx(sum(right) / len(right))
        norm = models.policy.descend(torch.stack(losses).mean())
        assert found["grad_norm"] == pytest.approx(norm, rel=1e-4)
        ours = {name.removeprefix("policy."): tensor for name, tensor in weights(stage).items()}
        same_weights(ours, models.policy.plain.weights())


def test_kl_is_that_of_the_policys_own_answers(inputs: Inputs, tmp_path: Path) -> None:
    spec = make_spec("dpo", inputs, eval_rows=2, batches={"batch_size": 4})
    stage, models = build(spec, tmp_path), PolicyAndReference(inputs, spec)
    records = []
    for step in (1, 2, 3):
        named = {k.removeprefix("policy."): v for k, v in weights(stage).items()}
        records.append((named, stage.step(step, knob_values(spec))))
    assert [records[0][1].metrics[name] for name in ("kl", "kl_k3")] == [0.0, 0.0]
    before, record = records[2]
    models.policy.plain.model.load_state_dict(
        {
            f"base_model.model.{name.replace('.weight', '.default.weight')}": tensor
            for name, tensor in before.items()
        },
        strict=False,
    )
    spoken = [sample for sample in record.samples if sample.kind == "train"]
    assert len({sample.prompt for sample in spoken}) == len(spoken) == 4
    nats = []
    for sample in spoken:
        asked, _ = encoded(inputs, sample.prompt, "")
        prompt = asked[:-1]
        ids = [*prompt, *sample.tokens]
        with torch.no_grad():
            own = token_logps(models.policy.plain, ids, len(prompt)).tolist()
            theirs = token_logps(models.reference, ids, len(prompt)).tolist()
        assert list(sample.logp) == pytest.approx(own, abs=1e-4)
        assert list(sample.ref_logp) == pytest.approx(theirs, abs=1e-4)
        nats.append(math.fsum(own) - math.fsum(theirs))
        assert sample.kl == pytest.approx(nats[-1], abs=1e-3)
    assert record.metrics["kl"] == pytest.approx(sum(nats) / len(nats), abs=1e-3)
    assert record.metrics["kl"] != 0.0
    lengths = [len(sample.tokens) for sample in spoken]
    assert record.metrics["response_tokens"] == sum(lengths) / len(lengths)


def test_held_out_prompts_are_answered_with_the_same_draws_each_time(
    inputs: Inputs, tmp_path: Path
) -> None:
    """A policy that does not move says the same again, and other words to training prompts."""
    spec = make_spec("dpo", inputs, eval_rows=2, sample_every=3, batches={"epochs": 8.0})
    done = run(spec, tmp_path, steps=4, lr=0.0)
    held_out = [[s.tokens for s in step if s.kind == "eval"] for step in done.samples]
    assert len(held_out[0]) == 2
    assert all(tokens == held_out[0] for tokens in held_out)
    assert [bool("kl" in row) for row in done.metrics] == [True, False, False, True]
    assert all(row["eval_kl"] == 0.0 for row in done.metrics)
    asked = {s.prompt for step in done.samples for s in step if s.kind == "eval"}
    trained = {s.prompt for step in done.samples for s in step if s.kind == "train"}
    assert asked | trained <= set(PROMPTS)
    assert not asked & trained


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
@pytest.mark.parametrize("start", ["adapter", "base"])
def test_the_first_step_shows_a_policy_that_is_its_reference(
    inputs: Inputs, tmp_path: Path, dtype: str, quantization: str, start: str
) -> None:
    """Exactly, whatever rounds: both read the same blocks by the same numeric path."""
    policy = inputs.policy if start == "adapter" else inputs.base
    model = {"dtype": dtype, "quantization": quantization}
    spec = make_spec("dpo", inputs, policy=policy, model=model)
    stage = build(spec, tmp_path)
    record = stage.step(1, knob_values(spec))
    assert record.metrics["loss"] == pytest.approx(math.log(2), abs=1e-7)
    for name in ("margin", "chosen_reward", "rejected_reward", "kl", "kl_k3"):
        assert record.metrics[name] == 0.0, name
    assert not record.warnings
    assert stage.step(2, knob_values(spec)).metrics["margin"] != 0.0


def test_a_reference_that_is_another_policy_is_told(inputs: Inputs, tmp_path: Path) -> None:
    spec = make_spec("dpo", inputs)
    stage = build(spec, tmp_path)
    stage._roles.trained("reference")[0].data.add_(0.01)  # type: ignore[attr-defined]
    (warning,) = stage.step(1, knob_values(spec)).warnings
    assert warning.kind == "reference"
    assert "before any update" in warning.text
    assert not stage.step(2, knob_values(spec)).warnings


def test_a_step_prefers_what_was_chosen_and_little_beta_moves_further(
    inputs: Inputs, tmp_path: Path
) -> None:
    batches = {"batch_size": 6, "epochs": 30.0}
    spec = make_spec("dpo", inputs, batches=batches, sample_prompts=0)
    done = run(spec, tmp_path, steps=12).metrics
    assert done[-1]["accuracy"] == 1.0
    assert done[-1]["loss"] < done[0]["loss"] - 0.2
    drift = {
        beta: run(spec, tmp_path, steps=12, beta=beta).metrics[-1]["margin"] / beta
        for beta in (0.1, 5.0)
    }
    assert drift[0.1] > drift[5.0] > 0
