"""Going back to an earlier step: exactly, also under kills, and with everything that waits."""

import shutil
from pathlib import Path

from rlhf_engine.runs import inbox
from rlhf_engine.runs.checkpoints import folder_of, saved
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import start_engine
from rlhf_engine.runs.lineage import checkpoint_steps
from rlhf_engine.runs.reader import CommandRow, StoreReader
from rlhf_engine.runs.state import run_state
from tests.engine.conftest import Lab

STEERED = (
    *("ppo.batch_size=8", "ppo.kl.controller=adaptive", "ppo.kl.horizon=100"),
    *("checkpoints.every=3", "checkpoints.keep=9"),
)


def answer(lab: Lab, run: RunDir, command: str) -> CommandRow:
    found: list[CommandRow] = []

    def row() -> bool:
        with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
            found.extend(row for row in [reader.command(command)] if row)
        return bool(found)

    lab.until(row, f"the answer to {command}")
    return found[0]


def roll_back(lab: Lab, run: RunDir, step: object) -> CommandRow:
    return answer(lab, run, inbox.send(run.inbox, "rollback", {"step": step}, "test"))


def paused_at(lab: Lab, run: RunDir, step: int) -> int:
    lab.at_step(run, step)
    inbox.send(run.inbox, "pause")
    lab.until(lambda: run_state(run).word == "paused", "the pause")
    return lab.step_of(run)


def finished(lab: Lab, run: RunDir) -> None:
    assert lab.ended(run).word == "done", run_state(run).detail


def test_the_steps_after_a_rollback_are_those_of_before(lab: Lab) -> None:
    calm = lab.start("smoke", *STEERED, "ppo.steps=12", name="calm")
    finished(lab, calm)
    run = lab.start("smoke", *STEERED, "ppo.steps=12", name="back")
    lab.at_step(run, 4)
    inbox.send(run.inbox, "set", {"knob": "lr", "value": 0.02})
    paused_at(lab, run, 7)
    assert lab.figures(run) != lab.figures(calm)
    row = roll_back(lab, run, 3)
    assert (row.state, row.step) == ("applied", 3)
    lab.until(lambda: run_state(run).step == 3, "the rollback")
    assert run_state(run).word == "paused", "a paused run stays paused"
    lab.until(lambda: [step for step, _ in saved(run.checkpoints)] == [3], "the folders to go")
    inbox.send(run.inbox, "resume")
    lab.at_step(run, 5)
    again, expected = lab.figures(run), lab.figures(calm)
    assert len(again) >= 5
    assert all(figures == expected[step] for step, figures in again.items())
    assert roll_back(lab, run, 0).state == "applied", "the start is built anew"
    finished(lab, run)

    assert lab.figures(run) == lab.figures(calm)
    assert lab.weights(run) == lab.weights(calm)
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        sessions, changes = reader.sessions(), reader.knobs()
        told = [event.text for event in reader.events() if event.kind == "rollback"]
    assert [(s.began, s.resumed_from_step) for s in sessions] == [
        ("start", None),
        ("rollback", 3),
        ("rollback", 0),
    ]
    assert told[0].startswith("rolled back by test from step ")
    assert told[0].endswith(" to step 3")
    assert not [change for change in changes if change.source == "command"]
    assert checkpoint_steps(run) == [3, 6, 9, 12]


def test_a_kill_in_the_midst_of_a_rollback_brings_nothing_back(lab: Lab, tmp_path: Path) -> None:
    sparse = (*STEERED, "checkpoints.every=5", "ppo.steps=12")
    calm = lab.start("smoke", *sparse, name="calm")
    finished(lab, calm)
    run = lab.start("smoke", *sparse, name="back")
    lab.at_step(run, 4)
    inbox.send(run.inbox, "set", {"knob": "lr", "value": 0.02})
    done = paused_at(lab, run, 7)
    answer(lab, run, inbox.send(run.inbox, "checkpoint"))
    lab.until(lambda: checkpoint_steps(run)[-1] == done, "the checkpoint")
    abandoned = tmp_path / "abandoned"
    shutil.copytree(folder_of(run.checkpoints, done), abandoned)
    assert roll_back(lab, run, 5).state == "applied"
    lab.kill(run)
    # As if the kill had come between the store's transaction and the removal of the folders.
    shutil.copytree(abandoned, folder_of(run.checkpoints, 6))
    assert checkpoint_steps(run) == [5], "nothing can be forked from what was taken back"
    start_engine(run)
    lab.at_step(run, 7)
    lab.kill(run)
    start_engine(run)
    finished(lab, run)
    assert lab.figures(run) == lab.figures(calm)
    assert lab.weights(run) == lab.weights(calm)


def test_what_waits_is_taken_up_after_a_rollback(lab: Lab) -> None:
    run = lab.start("smoke", *STEERED, "ppo.steps=400")
    paused_at(lab, run, 5)
    waiting = inbox.send(run.inbox, "set", {"knob": "clip", "value": 0.1})
    inbox.send(run.inbox, "rollback", {"step": 3})
    inbox.send(run.inbox, "resume")
    assert answer(lab, run, waiting).step == 4
    lab.at_step(run, 5)
    after = inbox.send(run.inbox, "stop")
    answer(lab, run, after)
    assert lab.ended(run).word == "stopped"
    clip = {row.step: row.knobs["clip"] for row in lab.steps(run)}
    assert (clip[3], clip[4]) == (0.2, 0.1)


def test_a_step_without_a_sound_checkpoint_is_refused_with_those_that_there_are(lab: Lab) -> None:
    run = lab.start("smoke", *STEERED, "ppo.steps=400")
    paused_at(lab, run, 6)
    before = lab.figures(run)
    for step in (4, 4000, "3", True, None):
        row = roll_back(lab, run, step)
        assert row.state == "rejected"
        assert "it can go back to 0, 3, 6" in row.note
    weights = run.checkpoints / "step-000003" / "policy.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    row = roll_back(lab, run, 3)
    assert row.state == "rejected"
    assert "step-000003: policy.safetensors is damaged" in row.note
    assert "it can go back to 0, 6" in row.note
    assert lab.figures(run) == before
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        assert len(reader.sessions()) == 1


def test_a_stage_without_state_goes_back_to_any_step(lab: Lab, tmp_path: Path) -> None:
    preset = tmp_path / "drafts.toml"
    preset.write_text(
        'name = "drafts"\nstage = "collect"\npolicy = "builtin:tiny-llama"\ndevice = "cpu"\n'
        'threads = 1\n[model]\ndtype = "fp32"\n[data]\npath = "builtin:demo-prompts"\n'
        'max_prompt_tokens = 32\n[reward]\nscore = "rule:vowels"\n'
        "[collect]\nprompts_per_step = 4\n[collect.sampling]\nmax_new_tokens = 12\n"
    )
    run = lab.start(preset)
    done = paused_at(lab, run, 6)
    before = lab.figures(run)
    assert roll_back(lab, run, 4).step == 4
    inbox.send(run.inbox, "set", {"knob": "temperature", "value": 0.2})
    inbox.send(run.inbox, "resume")
    lab.until(lambda: lab.step_of(run) < done, "the rollback")
    lab.at_step(run, 6)
    inbox.send(run.inbox, "stop")
    lab.ended(run)
    after = lab.figures(run)
    assert {step: after[step] for step in range(1, 5)} == {s: before[s] for s in range(1, 5)}
    assert after[5]["temperature"] == 0.2
    assert after[5]["score"] != before[5]["score"]
