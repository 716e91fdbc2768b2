"""Forks and replays in real engines: equal to their originals wherever nothing was changed."""

import shutil

import pytest
from click.testing import CliRunner, Result

from rlhf_engine.runs import inbox, lineage
from rlhf_engine.runs.checkpoints import saved
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import start_engine
from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.state import run_state
from rlhf_engine.runs.writer import StoreWriter
from tests.engine.conftest import Lab
from tests.engine.test_rollback import finished, paused_at, roll_back
from tests.engine.test_stages import PIPELINE
from workbench.cli import main

SMALL = ("ppo.batch_size=8", "checkpoints.every=3", "checkpoints.keep=2")


def workbench(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def changes(run: RunDir) -> list[tuple[int, str, float | None, float, str]]:
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        return [(k.step, k.name, k.old, k.new, k.source) for k in reader.knobs()]


def test_a_replay_repeats_three_live_kl_changes_and_a_rollback_bit_for_bit(lab: Lab) -> None:
    overrides = ("ppo.kl.controller=adaptive", "ppo.kl.horizon=100", "checkpoints.keep=9")
    run = lab.start("smoke", *SMALL, *overrides, "ppo.steps=16")
    for step, value in ((2, 0.3), (4, 0.05)):
        lab.at_step(run, step)
        inbox.send(run.inbox, "set", {"knob": "kl_coef", "value": value})
    paused_at(lab, run, 6)
    inbox.send(run.inbox, "set", {"knob": "kl_coef", "value": 5})
    inbox.send(run.inbox, "resume")
    lab.at_step(run, 8)
    roll_back(lab, run, 6)
    for value in (0.2, 0.15):
        inbox.send(run.inbox, "set", {"knob": "kl_coef", "value": value})
    finished(lab, run)

    result = workbench("replay", run.id, "--wait")
    assert result.exit_code == 0, result.output
    again, verdict = result.stdout.splitlines()
    assert verdict == "equal in 16 steps"
    repeated = RunDir(run.path.with_name(again))
    assert lab.figures(repeated) == lab.figures(run)
    assert lab.weights(repeated) == lab.weights(run)
    asked = [change for change in changes(run) if change[-1] == "command"]
    planned = [change for change in changes(repeated) if change[-1] == "schedule"]
    assert len(asked) >= 3
    assert [change[:-1] for change in planned] == [change[:-1] for change in asked]
    assert any(change[-1] == "controller" for change in changes(repeated))


def test_a_replay_that_differs_says_where_and_fails(lab: Lab) -> None:
    run = lab.start("smoke", *SMALL, "ppo.steps=3")
    finished(lab, run)
    store = StoreWriter(run.store)
    store.session = 1
    row = lab.steps(run)[1]
    store._put("DELETE FROM steps WHERE step = 2")
    store.step(2, row.metrics | {"entropy": 0.0}, row.knobs, row.phases)
    store.close()
    result = workbench("replay", run.id, "--wait")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1].startswith("step 2: entropy was 0.0 and is ")


def test_planned_changes_come_at_their_steps_also_after_a_kill(lab: Lab) -> None:
    plan = 'changes=[{step=2, knob="ppo.kl.coef", value=0.5}, {step=5, knob="clip", value=0.1}]'
    run = lab.start("smoke", *SMALL, plan, "ppo.steps=6")
    lab.at_step(run, 4)
    lab.kill(run)
    start_engine(run)
    finished(lab, run)
    knobs = {row.step: (row.knobs["kl_coef"], row.knobs["clip"]) for row in lab.steps(run)}
    assert knobs == dict(
        zip(range(1, 7), [(0.01, 0.2), *[(0.5, 0.2)] * 3, *[(0.5, 0.1)] * 2], strict=True)
    )
    assert [c for c in changes(run) if c[-1] == "schedule"] == [
        (2, "kl_coef", 0.01, 0.5, "schedule"),
        (5, "clip", 0.2, 0.1, "schedule"),
    ]


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(False, id="done"),
        pytest.param(True, id="stopped", marks=pytest.mark.slow),
    ],
)
def test_a_fork_goes_on_as_its_parent_did_and_needs_it_no_more(lab: Lab, stop: bool) -> None:
    overrides = (
        "ppo.kl.controller=adaptive",
        "ppo.kl.horizon=100",
        "ppo.optimizer.schedule=cosine",
    )
    parent = lab.start("smoke", *SMALL, *overrides, "ppo.steps=10", "checkpoints.keep=9")
    lab.at_step(parent, 1)
    inbox.send(parent.inbox, "set", {"knob": "value_coef", "value": 0.3})
    if stop:
        lab.at_step(parent, 5)
        inbox.send(parent.inbox, "stop")
        assert lab.ended(parent).word == "stopped"
    else:
        finished(lab, parent)
    expected, weights = lab.figures(parent), lab.weights(parent)

    child = lineage.fork(parent, 3, ["checkpoints.keep=1", "checkpoints.every=2"])
    shutil.rmtree(parent.path)
    lab.at_step(child, 7)
    lab.kill(child)
    assert sorted(step for step, _ in saved(child.checkpoints)) == [3, 6]
    start_engine(child)
    finished(lab, child)
    figures = lab.figures(child)
    assert list(figures) == list(range(4, 11))
    assert all(figures[step] == expected[step] for step in figures if step in expected)
    assert stop or lab.weights(child) == weights
    with StoreReader.open(child.store) as reader:  # type: ignore[union-attr]
        assert [s.began for s in reader.sessions()] == ["fork", "resume"]
    assert (4, "value_coef", None, 0.3, "config") in changes(child)

    result = workbench("replay", child.id, "--wait")
    assert result.exit_code == 0, result.output
    again, verdict = result.stdout.splitlines()
    assert verdict == "equal in 7 steps"
    assert lab.weights(RunDir(child.path.with_name(again))) == lab.weights(child)


def test_a_fork_with_changes_differs_from_its_first_step_on_and_can_be_rolled_back(
    lab: Lab,
) -> None:
    parent = lab.start("smoke", *SMALL, "ppo.steps=400")
    paused_at(lab, parent, 4)
    result = workbench(
        *("fork", parent.id, "--step", "3", "--set", "kl_coef=0.9", "--set", "ppo.steps=8"),
        *("--set", "checkpoints.keep=9"),
    )
    assert result.exit_code == 0, result.output
    child = RunDir(parent.path.with_name(result.stdout.strip()))
    assert parent.id in workbench("show", child.id).stdout
    inbox.send(parent.inbox, "stop")
    lab.ended(parent)
    inbox.send(child.inbox, "pause")
    lab.until(lambda: run_state(child).word == "paused", "the pause")
    assert "it can go back to 3" in roll_back(lab, child, 0).note
    inbox.send(child.inbox, "resume")
    lab.at_step(child, 5)
    assert roll_back(lab, child, 3).state == "applied"
    finished(lab, child)
    rows = {row.step: row.knobs["kl_coef"] for row in lab.steps(child)}
    assert rows == dict.fromkeys(range(4, 9), 0.9)
    assert lab.figures(child)[4] != lab.figures(parent)[4]
    assert changes(child)[0][0] == 4
    # A fork whose own start is gone says so instead of beginning anew.
    broken = lineage.fork(child, 3)
    lab.until(lambda: run_state(broken).word != "starting", "the engine")
    lab.kill(broken)
    (broken.checkpoints / "step-000003" / "optimizer.safetensors").unlink()
    start_engine(broken)
    assert lab.ended(broken).word == "failed"
    detail = run_state(broken).detail
    assert "optimizer.safetensors is missing" in detail
    assert f"workbench fork {child.id} --step 3" in detail


def test_the_last_step_of_an_sft_run_leaves_nothing_to_fork(lab: Lab) -> None:
    """The engine knows the number of steps where the spec alone does not."""
    preset = lab.home.parent / "tiny.toml"
    preset.write_text("[[stages]]".join(PIPELINE.split("[[stages]]")[:2]))
    run = lab.start(preset, "sft.batches.max_steps=4")
    finished(lab, run)
    result = workbench("fork", run.id)
    assert result.exit_code == 2
    assert "give the fork more of them: --set sft.batches.epochs=" in result.stderr
    longer = lineage.fork(run, None, ["sft.batches.max_steps=6"])
    finished(lab, longer)
    assert list(lab.figures(longer)) == [5, 6]
