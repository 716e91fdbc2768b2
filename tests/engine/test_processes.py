"""Runs as processes: queue, parents, damage, failures that say what to do."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_engine.job.errors import SpecError
from rlhf_engine.runs import inbox
from rlhf_engine.runs.checkpoints import saved
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import start_engine
from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.state import run_state
from tests.engine.conftest import Lab
from tests.engine.test_stages import PIPELINE


def events(run: RunDir) -> str:
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        return "\n".join(event.text for event in reader.events())


@pytest.mark.cold
def test_a_second_run_waits_for_the_device_and_names_who_has_it(lab: Lab) -> None:
    first = lab.start("smoke", "ppo.steps=400")
    lab.at_step(first, 1)
    second = lab.start("smoke", "ppo.steps=2")
    lab.until(lambda: run_state(second).word == "queued", "the queue")
    assert first.id in run_state(second).detail
    inbox.send(first.inbox, "stop")
    assert lab.ended(first).word == "stopped"
    assert lab.ended(second).word == "done"


def test_children_of_a_failed_run_are_cancelled_with_the_reason(lab: Lab, tmp_path: Path) -> None:
    preset = tmp_path / "broken.toml"
    preset.write_text(PIPELINE.replace('score = "rule:vowels"', 'score = "rule:vovels"'))
    runs = lab.start_all(preset, "sft.batches.max_steps=1")
    states = [lab.ended(run) for run in runs]
    cancelled = ["cancelled"] * (len(runs) - 2)
    assert [state.word for state in states] == ["done", "failed", *cancelled]
    assert "did you mean 'vowels'" in states[1].detail
    assert runs[1].id in states[2].detail
    assert "Traceback" not in states[1].detail


@pytest.mark.cold
def test_a_run_lives_from_the_moment_of_its_launch(lab: Lab) -> None:
    run = lab.start("smoke", "ppo.steps=2")
    # Its engine may have come no further than its first instruction, for as long as it likes.
    lab.signal(run, signal.SIGSTOP)
    for path in (run.spec_file, run.log):
        os.utime(path, (0, 0))
    assert not run_state(run).ended
    with pytest.raises(SpecError, match="running already"):
        start_engine(run)
    lab.signal(run, signal.SIGKILL)
    lab.until(lambda: run_state(run).word == "lost", "the lock to be free")
    start_engine(run)
    assert lab.ended(run).word == "done"


def test_a_run_that_waits_can_be_stopped(lab: Lab, tmp_path: Path) -> None:
    preset = tmp_path / "tiny.toml"
    preset.write_text(PIPELINE)
    runs = lab.start_all(preset)
    lab.until(lambda: run_state(runs[1]).word == "waiting", "the child")
    inbox.send(runs[1].inbox, "stop")
    assert lab.ended(runs[1]).word == "cancelled"
    assert "stopped" in run_state(runs[1]).detail


def harm(folder: Path) -> str:
    """Flip a bit of a checkpoint; what the run says of it."""
    weights = folder / "policy.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return f"checkpoint {folder.name}: policy.safetensors is damaged"


def lose(folder: Path) -> str:
    """Remove a file of a checkpoint; what the run says of it."""
    (folder / "optimizer.safetensors").unlink()
    return f"checkpoint {folder.name}: optimizer.safetensors is missing"


@pytest.mark.parametrize("spoil", [harm, lose])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    lab: Lab, spoil: Callable[[Path], str]
) -> None:
    """The run ends as one that nothing happened to."""
    settings = ("ppo.steps=10", "checkpoints.every=2", "checkpoints.keep=5")
    calm = lab.start("smoke", *settings)
    run = lab.start("smoke", *settings)
    lab.at_step(run, 7)
    lab.kill(run)
    (_, newest), (before, _) = list(saved(run.checkpoints))[:2]
    said = spoil(newest)
    start_engine(run)
    assert lab.ended(run).word == lab.ended(calm).word == "done"
    assert said in events(run)
    assert sessions(run) == [None, before]
    assert lab.figures(run) == lab.figures(calm)
    assert lab.weights(run) == lab.weights(calm)


def sessions(run: RunDir) -> list[int | None]:
    """The step that each life of a run went on from."""
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        return [session.resumed_from_step for session in reader.sessions()]


def test_a_run_without_a_sound_checkpoint_begins_anew(lab: Lab) -> None:
    run = lab.start("smoke", "ppo.steps=6", "checkpoints.every=2")
    lab.at_step(run, 4)
    lab.kill(run)
    said = [lose(folder) for _, folder in saved(run.checkpoints)]
    start_engine(run)
    assert lab.ended(run).word == "done"
    assert all(text in events(run) for text in said)
    assert sessions(run) == [None, 0]
    assert [row.step for row in lab.steps(run)] == list(range(1, 7))


def test_a_persons_own_reward_function_and_its_error(lab: Lab, tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text("def short(prompt, response, finished):\n    return -float(len(response))\n")
    run = lab.start("smoke", "ppo.steps=1", f"reward.score={own}:short")
    assert lab.ended(run).word == "done"
    own.write_text("def short(prompt, response, finished):\n    return 1 / 0\n")
    broken = lab.start("smoke", "ppo.steps=1", f"reward.score={own}:short")
    assert lab.ended(broken).word == "failed"
    assert "ZeroDivisionError" in run_state(broken).detail
    assert "on the response" in run_state(broken).detail


def test_bad_data_is_named_by_file_and_row(lab: Lab, tmp_path: Path) -> None:
    data = tmp_path / "prompts.jsonl"
    data.write_text(json.dumps({"prompt": "fine"}) + "\n{not json\n")
    run = lab.start("smoke", f"data.path={data}")
    assert lab.ended(run).word == "failed"
    assert "prompts.jsonl:2" in run_state(run).detail


def test_what_a_run_writes_is_for_its_owner_alone(lab: Lab) -> None:
    run = lab.start("smoke", "ppo.steps=2", "checkpoints.every=1")
    assert lab.ended(run).word == "done"
    for path in [run.path, *run.path.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
