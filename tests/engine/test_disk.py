"""A disk that takes no more: the run pauses with the reason, loses nothing, and goes on."""

import json
import resource

from rlhf_engine.runs import inbox
from rlhf_engine.runs.checkpoints import fault, saved
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import start_engine
from rlhf_engine.runs.lock import owner
from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.state import run_state
from tests.engine.conftest import Lab
from tests.engine.test_rollback import answer, finished

# Checkpoints are larger than what the store's files grow to in so few steps.
HEAVY = ("ppo.batch_size=8", "ppo.record_samples=2", "lora.r=64", "ppo.steps=8")


def limit(run: RunDir, size: int) -> None:
    """Let no file of the engine grow beyond `size` bytes, as a full disk or a quota does."""
    pid = json.loads(owner(run.lock))["pid"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def disk_events(run: RunDir) -> list[str]:
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        return [e.text for e in reader.events() if (e.level, e.kind) == ("error", "disk")]


def calm(lab: Lab, *overrides: str) -> RunDir:
    run = lab.start("smoke", *HEAVY, *overrides, name="calm")
    finished(lab, run)
    return run


def test_a_checkpoint_that_does_not_fit_pauses_the_run_and_is_saved_on_resume(lab: Lab) -> None:
    expected = calm(lab, "checkpoints.every=3")
    size = max(p.stat().st_size for p in (expected.checkpoints / "step-000003").iterdir())
    store = sum(path.stat().st_size for path in expected.path.glob("run.db*"))
    assert store < size - 4096, "only the checkpoint meets the limit"
    run = lab.start("smoke", *HEAVY, "checkpoints.every=3", name="tight")
    lab.at_step(run, 4)
    limit(run, size - 4096)
    lab.until(lambda: run_state(run).word == "paused", "the pause")
    state = run_state(run)
    assert state.step == 6
    for said in ("the checkpoint of step 6", "File too large", f"workbench resume {run.id}"):
        assert said in state.detail
    assert disk_events(run) == [state.detail]
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-000003"]
    assert fault(run.checkpoints / "step-000003") is None

    answer(lab, run, inbox.send(run.inbox, "resume"))
    lab.until(lambda: len(disk_events(run)) == 2, "the second try")
    lab.until(lambda: run_state(run).word == "paused", "the pause")
    assert run_state(run).step == 6, "no step is done on top of what is not saved"
    limit(run, resource.RLIM_INFINITY)
    answer(lab, run, inbox.send(run.inbox, "resume"))
    finished(lab, run)
    assert [step for step, _ in saved(run.checkpoints)] == [8, 6, 3]
    assert lab.figures(run) == lab.figures(expected)
    assert lab.weights(run) == lab.weights(expected)


def test_a_run_that_cannot_save_can_still_be_stopped(lab: Lab) -> None:
    run = lab.start("smoke", *HEAVY, "checkpoints.every=3")
    lab.at_step(run, 4)
    sizes = [path.stat().st_size for path in (run.checkpoints / "step-000003").iterdir()]
    limit(run, max(sizes) - 4096)
    lab.until(lambda: run_state(run).word == "paused", "the pause")
    inbox.send(run.inbox, "stop")
    assert lab.ended(run).word == "stopped"
    assert [step for step, _ in saved(run.checkpoints)] == [3]
    start_engine(run)
    finished(lab, run)
    assert list(lab.figures(run)) == list(range(1, 9))


def test_a_store_that_cannot_grow_holds_the_step_until_it_can(lab: Lab) -> None:
    expected = calm(lab, "checkpoints.every=50")
    run = lab.start("smoke", *HEAVY, "checkpoints.every=50", name="tight")
    lab.at_step(run, 3)
    limit(run, 4096)
    lab.until(lambda: run_state(run).word == "paused", "the pause")
    state = run_state(run)
    assert "run.db cannot be written" in state.detail
    assert "free some space" in state.detail
    held = lab.step_of(run)
    assert held < 8
    assert "cannot be written" in run.log.read_text()
    limit(run, resource.RLIM_INFINITY)
    finished(lab, run)
    assert "the store can be written again" in run.log.read_text()
    assert lab.figures(run) == lab.figures(expected)
    assert lab.weights(run) == lab.weights(expected)
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        assert len(reader.sessions()) == 1, "the same process went on"


def test_an_output_that_cannot_be_written_is_tried_again_on_resume(lab: Lab) -> None:
    run = lab.start("smoke", *HEAVY, "ppo.steps=3")
    obstacle = run.path / "output.tmp"
    obstacle.write_text("")
    lab.until(lambda: run_state(run).word == "paused", "the pause")
    assert "the output could not be written" in run_state(run).detail
    assert "File exists" in run_state(run).detail
    inbox.send(run.inbox, "stop")
    assert lab.ended(run).word == "stopped", "a run without its output is not done"
    obstacle.unlink()
    start_engine(run)
    finished(lab, run)
    assert lab.weights(run)
