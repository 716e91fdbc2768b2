"""Which loss reaches which weights in a real step, and what of a stage its state holds."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlhf_engine import checkpoint
from rlhf_engine.job.knobs import knob_values
from rlhf_engine.stages.stage import Stage
from tests.stages.inputs import Done, Inputs, build, make_inputs, make_spec, run, weights

VALUES = ("separate", "shared")
# Without decay a weight that no gradient reaches stays bit for bit.
NO_DECAY = {"weight_decay": 0.0}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def of(role: str, done: dict[str, Tensor]) -> list[Tensor]:
    found = [tensor for name, tensor in done.items() if name.startswith(f"{role}.")]
    assert found
    return found


def equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def one_step(inputs: Inputs, home: Path, value: str, **knobs: float) -> Done:
    return run(make_spec("ppo", inputs, value=value, optimizer=NO_DECAY), home, 1, **knobs)


@pytest.mark.parametrize("value", VALUES)
def test_without_a_value_loss_nothing_reaches_the_value_role(
    inputs: Inputs, tmp_path: Path, value: str
) -> None:
    before = weights(build(make_spec("ppo", inputs, value=value), tmp_path))
    after = one_step(inputs, tmp_path, value, value_coef=0.0).weights
    assert equal(of("value", after), of("value", before))
    assert not equal(of("policy", after), of("policy", before))


@pytest.mark.parametrize("value", VALUES)
def test_the_value_loss_reaches_the_policy_through_a_shared_trunk_alone(
    inputs: Inputs, tmp_path: Path, value: str
) -> None:
    weak = one_step(inputs, tmp_path, value, value_coef=0.01).weights
    strong = one_step(inputs, tmp_path, value, value_coef=5.0).weights
    assert not equal(of("value", weak), of("value", strong))
    assert equal(of("policy", weak), of("policy", strong)) == (value == "separate")


def test_the_policy_loss_never_reaches_a_separate_value_role(
    inputs: Inputs, tmp_path: Path
) -> None:
    tight = one_step(inputs, tmp_path, "separate", clip=1e-4).weights
    loose = one_step(inputs, tmp_path, "separate", clip=5.0).weights
    assert equal(of("value", tight), of("value", loose))
    assert not equal(of("policy", tight), of("policy", loose))


@pytest.mark.parametrize(
    ("stage", "trained"), [("sft", "policy"), ("reward", "reward"), ("ppo", "policy")]
)
def test_training_leaves_the_base_and_the_other_roles_as_they_were(
    inputs: Inputs, tmp_path: Path, stage: str, trained: str
) -> None:
    policy = inputs.reward if stage == "reward" else inputs.policy
    spec = make_spec(stage, inputs, policy=policy)
    built = build(spec, tmp_path)
    before = everything(built)
    built.step(1, knob_values(spec))
    after = everything(built)
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    roles = {trained, "value"} if stage == "ppo" else {trained}
    heads = {f"head.{role}" for role in roles} & before.keys()
    adapters = {name for name in before if name.split(".")[-2] in roles and "lora_" in name}
    assert changed == adapters | heads


def everything(stage: Stage) -> dict[str, Tensor]:
    """Copies of the base, of all adapters and of all heads."""
    roles = stage._roles  # type: ignore[attr-defined]
    held = {name: tensor.clone() for name, tensor in roles.base.model.state_dict().items()}
    return held | {f"head.{role}": head.weight.clone() for role, head in roles.heads.items()}


@pytest.mark.parametrize("stage", ["sft", "reward", "ppo"])
def test_a_stage_made_anew_from_a_checkpoint_goes_on_bit_for_bit(
    inputs: Inputs, tmp_path: Path, stage: str
) -> None:
    """All that a step depends on is in the state: nothing of a role stays behind."""
    spec = make_spec(stage, inputs)
    first, second = build(spec, tmp_path), build(spec, tmp_path)
    knobs = knob_values(spec)
    first.step(1, knobs)
    state = first.state()
    assert state is not None
    checkpoint.save(tmp_path, 1, state)
    second.load_state(checkpoint.load(checkpoint.folder_of(tmp_path, 1)))
    records = [each.step(2, knobs) for each in (first, second)]
    figures = [
        {k: v for k, v in record.metrics.items() if k != "tokens_per_second"} for record in records
    ]
    assert figures[0] == figures[1]
    ours, theirs = weights(first), weights(second)
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
