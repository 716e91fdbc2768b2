"""Forks and replays as specs: what is carried over, what is refused, nothing half made."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlhf_engine import checkpoint
from rlhf_engine.checkpoint import State
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.knobs import knob_values
from rlhf_engine.job.presets import load_preset
from rlhf_engine.job.spec import PpoSpec, Spec
from rlhf_engine.runs import launch, lineage
from rlhf_engine.runs.checkpoints import fault, folder_of
from rlhf_engine.runs.directory import RunDir, all_runs
from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.schema import SIZES
from rlhf_engine.runs.writer import StoreWriter

Parent = Callable[..., RunDir]


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parent:
    """A PPO run of ten steps with checkpoints at 4 and 8, steered by hand and by a controller."""
    for module in (launch, lineage):
        monkeypatch.setattr(module, "start_engine", lambda run: None)
    home = tmp_path / "home"
    home.mkdir()

    def make(*overrides: str) -> RunDir:
        run = launch.launch(home, load_preset("smoke", ["ppo.steps=10", *overrides]))[0]
        store = StoreWriter(run.store)
        store.start_session(None)
        store.set_fact("total_steps", "10")
        knobs = knob_values(run.spec())
        for step in range(1, 11):
            store.step(step, {"kl": float(step)}, knobs, {})
            if step in (4, 8):
                values = {"stage": {}, "knobs": knobs | {"clip": 0.1}, "moves": {"kl_coef": 0.3}}
                state = State({"policy": {"a": torch.full((3,), float(step))}}, values)
                size = checkpoint.save(run.checkpoints, step, state)
                store.checkpoint(step, str(folder_of(run.checkpoints, step)), size)
        store.knob(1, "kl_coef", None, 0.01, "config")
        store.knob(3, "clip", 0.2, 0.1, "command", "x")
        store.knob(5, "kl_coef", 0.01, 0.3, "controller")
        store.close()
        return run

    return make


def ppo(spec: Spec) -> PpoSpec:
    assert isinstance(spec, PpoSpec)
    return spec


def test_a_fork_starts_with_the_knobs_of_its_checkpoint_and_what_is_set_over_them(
    parent: Parent,
) -> None:
    run = parent('changes=[{step=3, knob="lr", value=0.1}, {step=7, knob="ppo.clip", value=0.4}]')
    child = lineage.fork(run, 4, ["ppo.optimizer.lr=0.5", "ppo.steps=20"])
    spec = ppo(child.spec())
    assert spec.fork is not None
    assert (spec.fork.run, spec.fork.step) == (run.id, 4)
    assert (spec.ppo.clip, spec.ppo.kl.coef, spec.ppo.optimizer.lr) == (0.1, 0.3, 0.5)
    assert [change.step for change in spec.changes] == [7], "what is still ahead"
    assert spec.name == "smoke-fork"
    copied = folder_of(child.checkpoints, 4)
    shutil.rmtree(run.path)
    assert fault(copied) is None
    assert [path.name for path in child.checkpoints.iterdir()] == [copied.name]


def test_without_a_step_the_newest_checkpoint_is_taken(parent: Parent) -> None:
    spec = lineage.fork(parent(), name="other").spec()
    assert spec.fork is not None
    assert (spec.fork.step, spec.name) == (8, "other")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("stage=sft", "stage: a fork keeps 'ppo': another stage"),
        ("policy=builtin:smollm2-135m", "policy: a fork keeps 'builtin:tiny-llama'"),
        ("model.dtype=bf16", "model.dtype: a fork keeps 'fp32'"),
        ("lora.r=4", "lora.r: a fork keeps 8: the saved adapters"),
        ("fork=", "fork: a fork keeps"),
        ("ppo.optimizer.eight_bit=true", "ppo.optimizer.eight_bit: a fork keeps False"),
        ("ppo.advantage=rloo", "ppo.advantage: the saved state has a separate value role"),
        ("ppo.value=shared", "ppo.value: .* and this needs a shared value role"),
        ("ppo.kl.coef=11", "--set: ppo.kl.coef: .*less than or equal to 10"),
        ("ppo.stepz=11", "did you mean 'ppo.steps'"),
    ],
)
def test_what_the_saved_state_does_not_take_is_refused(
    parent: Parent, override: str, says: str
) -> None:
    run = parent()
    with pytest.raises(SpecError, match=says):
        lineage.fork(run, 4, [override])
    assert list(all_runs(run.home)) == [run]


def test_group_estimators_may_take_each_others_state(parent: Parent) -> None:
    run = parent("ppo.advantage=rloo")
    child = lineage.fork(run, 4, ["ppo.advantage=grpo", "ppo.value=shared"])
    assert ppo(child.spec()).ppo.advantage == "grpo"
    with pytest.raises(SpecError, match="has no value role, and this needs a separate value role"):
        lineage.fork(run, 4, ["ppo.advantage=gae"])


def test_a_fork_from_the_last_step_needs_more_steps(parent: Parent) -> None:
    run = parent()
    store = StoreWriter(run.store)
    store.set_fact("total_steps", "8")
    store.close()
    with pytest.raises(SpecError, match=r"step 8 is the last one of .*: --set ppo\.steps="):
        lineage.fork(run)
    assert ppo(lineage.fork(run, 8, ["ppo.steps=12"]).spec()).ppo.steps == 12


def test_a_missing_or_damaged_checkpoint_is_named_with_the_others(parent: Parent) -> None:
    run = parent()
    with pytest.raises(SpecError, match="no checkpoint of step 5; there is one of 4, 8"):
        lineage.fork(run, 5)
    (folder_of(run.checkpoints, 8) / "policy.safetensors").write_bytes(b"?")
    with pytest.raises(SpecError, match=r"policy\.safetensors is damaged.*other steps: 4"):
        lineage.fork(run)
    assert list(all_runs(run.home)) == [run]
    shutil.rmtree(run.checkpoints)
    with pytest.raises(SpecError, match="has no checkpoint"):
        lineage.fork(run, 4)


def test_a_replay_plans_what_people_did_and_leaves_controllers_to_themselves(
    parent: Parent,
) -> None:
    run = parent('changes=[{step=9, knob="lr", value=0.1}, {step=12, knob="lr", value=0.2}]')
    store = StoreWriter(run.store)
    store.start_session(8, "rollback")
    store.knob(9, "kl_coef", 0.3, 0.7, "command", "y")
    store.knob(9, "lr", 0.01, 0.1, "schedule")
    store.step(9, {}, {}, {})
    store.close()
    spec = lineage.replay(run).spec()
    assert [(c.step, c.knob, c.value) for c in spec.changes] == [
        (3, "clip", 0.1),
        (9, "kl_coef", 0.7),
        (9, "lr", 0.1),
        (12, "lr", 0.2),
    ]
    assert spec.model_copy(update={"changes": [], "name": "smoke"}) == run.spec().model_copy(
        update={"changes": []}
    )


def test_a_replay_of_a_fork_brings_the_forks_start_along(parent: Parent) -> None:
    run = parent()
    child = lineage.fork(run, 4, ["ppo.kl.coef=0.7"])
    store = StoreWriter(child.store)
    store.start_session(4, "fork")
    store.checkpoint(4, str(folder_of(child.checkpoints, 4)), 1)
    store.close()
    shutil.rmtree(run.path)
    again = lineage.replay(child)
    assert again.spec().fork == child.spec().fork
    assert ppo(again.spec()).ppo.kl.coef == 0.7
    assert fault(folder_of(again.checkpoints, 4)) is None
    # The knobs of a fork's start are those of its spec, not those of the parent's checkpoint.
    assert ppo(lineage.fork(child, 4).spec()).ppo.kl.coef == 0.7


@pytest.mark.parametrize("anew", [lineage.replay, lineage.fork])
def test_what_turned_out_to_fit_into_memory_is_carried_over(
    parent: Parent, anew: Callable[[RunDir], RunDir]
) -> None:
    run = parent()
    store = StoreWriter(run.store)
    store.set_fact(SIZES, '[[2, 0, "micro_batch_size", 4]]')
    store.close()
    reader = StoreReader.open(anew(run).store)
    assert reader is not None
    with reader:
        assert reader.facts()[SIZES] == '[[2, 0, "micro_batch_size", 4]]'
        assert reader.sessions() == []
