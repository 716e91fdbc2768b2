"""What people ask while a run trains: answered once, and without a trace in its own numbers."""

import math
import time

import pytest

from rlhf_engine.job.presets import load_preset
from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import create, start_engine
from rlhf_engine.runs.lock import is_held
from rlhf_engine.runs.reader import CommandRow, MeasuredRow, SampleRow, StoreReader
from rlhf_engine.runs.state import run_state
from tests.engine.conftest import Lab
from tests.engine.test_live_control import acknowledged
from tests.engine.test_ranks import two_processes

SHORT = ("ppo.steps=8", "data.eval_rows=4", "ppo.eval_every=1", "checkpoints.every=2")


def created(lab: Lab, *overrides: str, name: str = "asked") -> RunDir:
    (run,) = create(lab.home, load_preset("smoke", list(overrides)), name)
    return run


def ask(run: RunDir, prompt: object = "Why is the sky blue?") -> str:
    return inbox.send(run.inbox, "sample", {"prompt": prompt}, "test")


def begin(lab: Lab, run: RunDir) -> None:
    """Start the engine and wait until it has its lock: the run counts as lost before."""
    start_engine(run)
    lab.until(lambda: is_held(run.lock), "the engine's lock")


def told(run: RunDir) -> tuple[list[CommandRow], list[SampleRow], list[MeasuredRow]]:
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        return reader.commands(), reader.samples(kind="asked"), reader.measured()


def test_questions_leave_no_trace_in_the_runs_own_numbers(lab: Lab) -> None:
    quiet = created(lab, *SHORT, name="quiet")
    begin(lab, quiet)
    assert lab.ended(quiet).word == "done"
    run = created(lab, *SHORT)
    # Before the first step, then while it trains.
    sent = [ask(run), inbox.send(run.inbox, "evaluate")]
    begin(lab, run)
    for step in (2, 4):
        lab.at_step(run, step)
        sent += [ask(run), inbox.send(run.inbox, "evaluate")]
    assert lab.ended(run).word == "done"

    assert lab.figures(run) == lab.figures(quiet)
    assert lab.weights(run) == lab.weights(quiet)
    commands, answers, measured = told(run)
    assert [(row.id, row.state) for row in commands] == [(name, "applied") for name in sent]
    assert [row.sample.detail["command"] for row in answers[::-1]] == [
        name for name in sent[::2] for _ in range(2)
    ]
    own = lab.figures(run)
    for row, name in zip(measured, sent[1::2], strict=True):
        assert row.command_id == name
        for figure, value in row.metrics.items():
            assert row.step == 0 or value == own[row.step][figure], "as the step itself measures"
    assert [row.step for row in measured] == [row.step for row in commands][1::2]
    assert measured[0].step == 0
    assert "eval_score" in measured[0].metrics


def test_an_answer_stands_beside_the_references_with_the_figures_of_its_tokens(lab: Lab) -> None:
    run = created(lab, "ppo.steps=400", "data.system=Be kind.")
    begin(lab, run)
    lab.at_step(run, 3)
    inbox.send(run.inbox, "pause")
    lab.until(lambda: run_state(run).word == "paused", "the pause")
    held = lab.step_of(run)
    row = acknowledged(lab, run, ask(run, "What is\nthis?"))
    assert (row.state, row.step) == ("applied", held)
    assert f"after step {held}" in row.note
    lab.until(lambda: run_state(run).word == "paused", "the pause to show again")
    reference, policy = (found.sample for found in told(run)[1])
    assert [policy.detail["policy"], reference.detail["policy"]] == ["policy", "reference"]
    assert policy.prompt == reference.prompt == "What is\nthis?"
    assert policy.prompt_id == reference.prompt_id
    for sample in (policy, reference):
        count = len(sample.tokens)
        assert count == len(sample.pieces) == len(sample.logp) == len(sample.ref_logp) > 0
        assert sample.score is not None
        assert sample.detail["rule:vowels"] is not None
    assert policy.response != reference.response, "three steps of a large lr have moved it"
    drift = sum(a - b for a, b in zip(policy.logp, policy.ref_logp, strict=True))
    assert policy.kl == pytest.approx(drift, abs=1e-4)
    assert policy.kl != 0
    assert reference.kl is None
    inbox.send(run.inbox, "stop")
    lab.ended(run)


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("  \n", "no prompt"),
        (None, "no prompt"),
        ("word " * 200, "at most 96 fit (data.max_prompt_tokens)"),
        ("half a pair \ud800", "not valid Unicode"),
    ],
)
def test_what_is_no_prompt_is_refused_with_the_reason(lab: Lab, prompt: object, why: str) -> None:
    run = created(lab, "ppo.steps=2")
    asked = ask(run, prompt)
    measured = inbox.send(run.inbox, "evaluate")
    begin(lab, run)
    assert lab.ended(run).word == "done"
    rows = {row.id: row for row in told(run)[0]}
    assert rows[asked].state == rows[measured].state == "rejected"
    assert why in rows[asked].note
    assert "data.eval_rows" in rows[measured].note, "smoke holds nothing out"


@pytest.mark.slow
def test_a_kill_neither_loses_nor_repeats_a_question(lab: Lab) -> None:
    run = created(lab, "ppo.steps=30", "data.eval_rows=4", "checkpoints.every=5")
    sent = []
    begin(lab, run)
    for delay in (0.0, 0.05, 0.3):
        lab.at_step(run, lab.step_of(run) + 3)
        sent += [ask(run), inbox.send(run.inbox, "evaluate")]
        time.sleep(delay)
        if not run_state(run).ended:
            lab.kill(run)
        if run_state(run).word != "done":
            begin(lab, run)
    lab.until(lambda: run_state(run).word == "done", "the end")
    commands, answers, measured = told(run)
    assert sorted(row.id for row in commands) == sent
    assert not inbox.waiting(run.inbox)
    applied = {row.id for row in commands if row.state == "applied"}
    assert applied, "the run was not over before it could answer"
    by_command = [row.sample.detail["command"] for row in answers]
    assert sorted(by_command) == sorted(2 * [name for name in sent[::2] if name in applied])
    assert [row.command_id for row in measured] == [n for n in sent[1::2] if n in applied]


@pytest.mark.slow
def test_two_processes_answer_and_measure_as_one(lab: Lab) -> None:
    settings = ("model.dtype=fp32", "ppo.steps=3", "data.eval_rows=4")
    alone, together = (created(lab, *settings, name=name) for name in ("alone", "together"))
    for run in (alone, together):
        ask(run)
        inbox.send(run.inbox, "evaluate")
    begin(lab, alone)
    assert lab.ended(alone).word == "done"
    with two_processes(lab, together) as process:
        assert process.wait() == 0, together.log.read_text()
    one, two = told(alone), told(together)
    assert [row.state for row in one[0]] == [row.state for row in two[0]] == ["applied"] * 2
    assert len(one[1]) == len(two[1]) == 2
    assert len(one[2]) == len(two[2]) == 1
    for figure, value in one[2][0].metrics.items():
        assert math.isclose(value, two[2][0].metrics[figure], rel_tol=1e-4, abs_tol=1e-4), figure
