"""Commands to a run that an engine (here a thread) takes up, refuses, or never sees."""

from pathlib import Path

import pytest

from rlhf_engine.runs import inbox
from rlhf_engine.runs.lock import is_held
from rlhf_engine.runs.reader import StoreReader

from .fakes import FakeEngine, Workbench, finished_run, make_run


def test_set_prints_the_step_that_the_engine_acknowledged(home: Path, workbench: Workbench) -> None:
    run = make_run(home)
    with FakeEngine(run):
        result = workbench("set", run.id, "kl_coef", "0.3", "--wait")
    assert result.exit_code == 0
    reader = StoreReader.open(run.store)
    assert reader is not None
    (row,) = reader.commands()
    assert row.body == {"knob": "kl_coef", "value": 0.3}
    assert (row.client, result.stdout) == ("cli", f"{row.step}\n")
    assert f"kl_coef = 0.3 from step {row.step} on" in result.stderr


def test_set_takes_the_dotted_path_too_and_returns_at_once(
    home: Path, workbench: Workbench
) -> None:
    run = make_run(home)
    with FakeEngine(run, answers=None):
        result = workbench("set", run.id, "ppo.kl.coef", "1e-2")
        (command,) = inbox.pending(run.inbox)
    assert (result.exit_code, result.stdout) == (0, "")
    assert command.body == {"knob": "kl_coef", "value": 0.01}


@pytest.mark.parametrize(
    ("knob", "value", "told"),
    [
        ("kl_coeff", "0.1", "did you mean 'kl_coef'?"),
        ("kl_coef", "-1", "0 <= kl_coef <= 10"),
        ("kl_coef", "much", "0 <= kl_coef <= 10"),
        ("kl_coef", "nan", "0 <= kl_coef <= 10"),
    ],
)
def test_a_wrong_knob_or_value_is_never_sent(
    home: Path, workbench: Workbench, knob: str, value: str, told: str
) -> None:
    run = make_run(home)
    with FakeEngine(run, answers=None):
        result = workbench("set", run.id, knob, "--", value)
        assert inbox.pending(run.inbox) == []
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_refusal_prints_the_engines_reason(home: Path, workbench: Workbench) -> None:
    run = make_run(home)
    with FakeEngine(run, answers=lambda command: "it is \x1b[31mnot paused"):
        result = workbench("resume", run.id, "--wait")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "it is ␛[31mnot paused" in result.stderr


def test_a_run_that_ends_meanwhile_is_said(home: Path, workbench: Workbench) -> None:
    run = make_run(home)
    with FakeEngine(run, steps=20, answers=None, outcome="stopped"):
        result = workbench("set", run.id, "kl_coef", "0.3", "--wait")
    assert result.exit_code == 1
    assert "ended (stopped at step 20) before it took this up" in result.stderr
    assert f"workbench resume {run.id}" in result.stderr


@pytest.mark.parametrize("verb", [["set", "kl_coef", "0.3"], ["pause"], ["checkpoint"], ["stop"]])
def test_a_dead_run_takes_no_commands_and_tells_how_to_go_on(
    home: Path, workbench: Workbench, verb: list[str]
) -> None:
    run = finished_run(home, "stopped")
    result = workbench(verb[0], run.id, *verb[1:])
    assert result.exit_code == 1
    assert f"workbench resume {run.id}" in result.stderr
    assert inbox.pending(run.inbox) == []


def test_a_finished_run_takes_no_commands(home: Path, workbench: Workbench) -> None:
    for verb in ("pause", "resume"):
        result = workbench(verb, finished_run(home).id)
        assert result.exit_code == 1
        assert "is done" in result.stderr


def test_a_run_that_was_just_started_takes_commands(home: Path, workbench: Workbench) -> None:
    run = make_run(home)
    assert workbench("set", run.id, "kl_coef", "0.3").exit_code == 0
    assert len(inbox.pending(run.inbox)) == 1


def test_a_paused_run_says_that_the_change_waits(home: Path, workbench: Workbench) -> None:
    run = make_run(home)
    with FakeEngine(run, status="paused", answers=None):
        result = workbench("set", run.id, "kl_coef", "0.3")
    assert result.exit_code == 0
    assert f"takes effect after: workbench resume {run.id}" in result.stderr


@pytest.mark.parametrize("verb", ["pause", "checkpoint", "resume"])
def test_plain_commands_reach_the_engine(home: Path, workbench: Workbench, verb: str) -> None:
    run = make_run(home)
    with FakeEngine(run):
        result = workbench(verb, run.id, "--wait")
    reader = StoreReader.open(run.store)
    assert reader is not None
    (row,) = reader.commands()
    assert (row.kind, result.stdout) == (verb, f"{row.step}\n")


def test_stop_waits_until_the_engine_has_gone(home: Path, workbench: Workbench) -> None:
    run = make_run(home)
    with FakeEngine(run, outcome="stopped"):
        result = workbench("stop", run.id, "--wait")
        assert not is_held(run.lock)
    assert result.exit_code == 0


def test_resume_starts_the_engine_of_a_stopped_run_again(
    home: Path, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run(home, "stopped")
    engine = FakeEngine(run)
    monkeypatch.setattr("rlhf_engine.runs.launch.start_engine", lambda run: engine.__enter__())
    try:
        result = workbench("resume", run.id, "--wait")
    finally:
        engine.end()
    assert (result.exit_code, result.stdout) == (0, "3\n")
    assert "goes on from step 3" in result.stderr


def test_rollback_prints_the_step_or_the_refusal(home: Path, workbench: Workbench) -> None:
    run = make_run(home)
    with FakeEngine(run):
        result = workbench("rollback", run.id, "2", "--wait")
    reader = StoreReader.open(run.store)
    assert reader is not None
    (row,) = reader.commands()
    assert (row.kind, row.body, result.stdout) == ("rollback", {"step": 2}, f"{row.step}\n")
    other = make_run(home)
    with FakeEngine(other, answers=lambda command: "it can go back to 0, 5"):
        result = workbench("rollback", other.id, "2", "--wait")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "it can go back to 0, 5" in result.stderr


def test_a_finished_run_is_forked_instead_of_rolled_back(home: Path, workbench: Workbench) -> None:
    run = finished_run(home)
    result = workbench("rollback", run.id, "2")
    assert result.exit_code == 1
    assert f"workbench fork {run.id} --step 2" in result.stderr
    assert inbox.pending(run.inbox) == []
    assert workbench("rollback", run.id, "-1").exit_code == 2
    assert workbench("rollback", "nowhere", "1").exit_code == 3


def test_rollback_starts_a_run_that_failed(
    home: Path, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run(home, "failed")
    engine = FakeEngine(run)
    monkeypatch.setattr("rlhf_engine.runs.launch.start_engine", lambda run: engine.__enter__())
    try:
        result = workbench("rollback", run.id, "2", "--wait")
    finally:
        engine.end()
    assert result.exit_code == 0


@pytest.mark.parametrize("verb", [["fork", "--step", "4"], ["fork"]])
def test_a_run_without_checkpoints_cannot_be_forked(
    home: Path, workbench: Workbench, verb: list[str]
) -> None:
    run = finished_run(home)
    result = workbench(verb[0], run.id, *verb[1:])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "has no checkpoint" in result.stderr
    assert workbench("fork", "nowhere").exit_code == 3
    assert workbench("replay", "nowhere").exit_code == 3
