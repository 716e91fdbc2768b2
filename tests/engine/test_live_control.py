"""A run that is steered while it trains: knobs, pause, checkpoint, stop, signals."""

import signal

from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import start_engine
from rlhf_engine.runs.reader import CommandRow, StoreReader
from rlhf_engine.runs.state import run_state
from tests.engine.conftest import Lab

LONG = ("ppo.steps=400", "checkpoints.every=5")


def acknowledged(lab: Lab, run: RunDir, command: str) -> CommandRow:
    def row() -> CommandRow | None:
        reader = StoreReader.open(run.store)
        assert reader is not None
        with reader:
            return reader.command(command)

    lab.until(lambda: row() is not None, f"the acknowledgement of {command}")
    found = row()
    assert found is not None
    return found


def test_a_knob_has_its_old_value_before_the_step_and_the_new_one_from_it_on(lab: Lab) -> None:
    run = lab.start("smoke", *LONG)
    lab.at_step(run, 3)
    command = inbox.send(run.inbox, "set", {"knob": "kl_coef", "value": 0.3}, "test")
    at = acknowledged(lab, run, command).step
    lab.at_step(run, at + 2)
    lab.signal(run, signal.SIGTERM)
    lab.ended(run)
    values = {row.step: row.knobs["kl_coef"] for row in lab.steps(run)}
    assert values[at - 1] == 0.01
    assert [values[s] for s in (at, at + 1, at + 2)] == [0.3, 0.3, 0.3]
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        changes = [k for k in reader.knobs() if k.name == "kl_coef"]
    assert [(c.step, c.old, c.new, c.source) for c in changes] == [
        (1, None, 0.01, "config"),
        (at, 0.01, 0.3, "command"),
    ]


def test_a_value_out_of_bounds_is_refused_with_the_bounds(lab: Lab) -> None:
    run = lab.start("smoke", *LONG)
    lab.at_step(run, 1)
    for body in ({"knob": "kl_coef", "value": 11}, {"knob": "kl_cof", "value": 1}):
        row = acknowledged(lab, run, inbox.send(run.inbox, "set", body))
        assert row.state == "rejected"
        assert "0 <= kl_coef <= 10" in row.note or "kl_coef" in row.note
    (run.inbox / "1-bad.json").write_text('{"kind": "dance"}')
    assert acknowledged(lab, run, "1-bad").state == "rejected"
    assert run_state(run).word == "running"


def test_pause_holds_the_run_between_steps_and_resume_goes_on(lab: Lab) -> None:
    run = lab.start("smoke", *LONG)
    lab.at_step(run, 2)
    acknowledged(lab, run, inbox.send(run.inbox, "pause"))
    lab.until(lambda: run_state(run).word == "paused", "the pause")
    held = lab.step_of(run)
    waiting = inbox.send(run.inbox, "set", {"knob": "clip", "value": 0.1})
    acknowledged(lab, run, inbox.send(run.inbox, "checkpoint"))
    lab.until(
        lambda: (run.checkpoints / f"step-{held:06d}").is_dir(), "the checkpoint of the pause"
    )
    assert lab.step_of(run) == held
    lab.until(lambda: run_state(run).word == "paused", "the pause to show again")
    acknowledged(lab, run, inbox.send(run.inbox, "resume"))
    assert acknowledged(lab, run, waiting).step == held + 1
    lab.at_step(run, held + 2)
    assert {row.step: row.knobs["clip"] for row in lab.steps(run)}[held + 1] == 0.1


def test_stop_keeps_a_checkpoint_and_an_output_and_can_be_resumed(lab: Lab) -> None:
    run = lab.start("smoke", *LONG, "ppo.steps=12")
    lab.at_step(run, 3)
    inbox.send(run.inbox, "stop")
    state = lab.ended(run)
    assert state.word == "stopped"
    assert (run.checkpoints / f"step-{state.step:06d}" / "policy.safetensors").is_file()
    assert (run.output / "adapter_model.safetensors").is_file()
    start_engine(run)
    lab.until(lambda: run_state(run).word == "done", "the resumed run")
    assert [row.step for row in lab.steps(run)] == list(range(1, 13))


def test_sigterm_finishes_the_step_and_a_second_one_ends_at_once(lab: Lab) -> None:
    run = lab.start("smoke", *LONG)
    lab.at_step(run, 2)
    lab.signal(run, signal.SIGTERM)
    state = lab.ended(run)
    assert state.word == "stopped"
    assert (run.checkpoints / f"step-{state.step:06d}").is_dir()
    second = lab.start("smoke", *LONG)
    lab.at_step(second, 2)
    for _ in range(2):
        lab.signal(second, signal.SIGTERM)
    assert lab.ended(second).word in ("lost", "stopped")
