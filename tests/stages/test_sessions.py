"""What a session makes of what it finds in the run's folder."""

from pathlib import Path

import pytest
import torch

from rlhf_engine.runs.checkpoints import folder_of, saved
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.lineage import checkpoint_steps
from rlhf_engine.runs.state import run_state
from tests.stages.inside import Inside


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    return Inside(tmp_path / "home")


@pytest.fixture
def run(inside: Inside) -> RunDir:
    return inside.run("smoke", "ppo.steps=4", "checkpoints.every=1", "checkpoints.keep=2")


def test_damaged_checkpoints_are_set_aside_and_the_run_repeats_itself(
    inside: Inside, run: RunDir
) -> None:
    figures, weights = inside.figures(run), inside.weights(run)
    for step in (3, 4):
        (folder_of(run.checkpoints, step) / "optimizer.safetensors").write_bytes(b"")
    inside.go_on(run)
    told = [f"step-00000{step}: optimizer.safetensors is damaged" for step in (4, 3)]
    assert all(part in text for part, text in zip(told, inside.warnings(run), strict=True))
    assert inside.figures(run) == figures
    assert all(torch.equal(inside.weights(run)[name], w) for name, w in weights.items())
    assert [step for step, _ in saved(run.checkpoints)] == [4, 3] == checkpoint_steps(run)[::-1]
    assert (run.checkpoints / "step-000004.damaged").is_dir()


def test_a_copy_of_a_checkpoint_beside_the_checkpoints_stops_nothing(
    inside: Inside, run: RunDir
) -> None:
    (run.checkpoints / "step-000003.bak").mkdir()
    inside.go_on(run)
    assert run_state(run).word == "done"


def test_a_spec_that_cannot_be_read_ends_the_session_with_the_reason(
    inside: Inside, run: RunDir
) -> None:
    run.spec_file.write_text("stage = 'ppo\n")
    inside.go_on(run)
    state = run_state(run)
    assert (state.word, state.step) == ("failed", 4)
    assert f"{run.spec_file}: cannot be read" in state.detail
