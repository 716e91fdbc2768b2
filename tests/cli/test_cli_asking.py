"""A run is asked for an answer or for held-out figures, from the command line."""

import json
from pathlib import Path

import pytest

from rlhf_engine.runs import inbox

from .fakes import FakeEngine, Records, Workbench, finished_run, make_run


def test_sample_prints_both_answers(home: Path, workbench: Workbench) -> None:
    run = make_run(home)
    with FakeEngine(run):
        result = workbench("sample", run.id, "Why is it so?", "--wait")
    assert result.exit_code == 0
    first, said, second, beside = result.stdout.splitlines()
    assert (first, second) == ("policy  KL 1.5", "reference  cut off")
    assert (said, beside) == ("  the policy says ␛]2;hi␇", "  the reference says ␛]2;hi␇")


def test_sample_prints_json_lines_and_both_are_kept(
    home: Path, workbench: Workbench, records: Records
) -> None:
    run = make_run(home)
    with FakeEngine(run):
        result = workbench("sample", run.id, "Why?", "--wait", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["policy"] for line in lines] == ["policy", "reference"]
    assert [line["kl"] for line in lines] == [1.5, None]
    assert {line["prompt"] for line in lines} == {"Why?"}
    kept = records("samples", run.id, "--kind", "asked")
    assert [row["response"] for row in kept] == [line["response"] for line in lines]


def test_measure_prints_the_figures_of_this_moment(home: Path, workbench: Workbench) -> None:
    run = make_run(home)
    with FakeEngine(run):
        plain = workbench("measure", run.id, "--wait")
        line = workbench("measure", run.id, "--wait", "--json")
    assert plain.stdout == "eval_score 1.25\neval_kl 0.5\n"
    assert "held-out data after step" in plain.stderr
    found = json.loads(line.stdout)
    assert (found["eval_score"], found["eval_kl"]) == (1.25, 0.5)
    assert found["step"] > 0


@pytest.mark.parametrize(
    ("arguments", "kind", "body"),
    [(["sample", "Why?"], "sample", {"prompt": "Why?"}), (["measure"], "evaluate", {})],
)
def test_without_wait_they_are_sent_and_not_waited_for(
    home: Path, workbench: Workbench, arguments: list[str], kind: str, body: dict[str, str]
) -> None:
    run = make_run(home)
    with FakeEngine(run, answers=None):
        result = workbench(arguments[0], run.id, *arguments[1:])
        (command,) = inbox.pending(run.inbox)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("sent: ")
    assert (command.kind, command.body) == (kind, body)


@pytest.mark.parametrize("arguments", [["sample", "Why?"], ["measure"]])
def test_a_refusal_and_a_dead_run_say_why(
    home: Path, workbench: Workbench, arguments: list[str]
) -> None:
    run = make_run(home)
    with FakeEngine(run, answers=lambda command: "there is nothing to \x1b[31mmeasure"):
        result = workbench(arguments[0], run.id, *arguments[1:], "--wait")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "refused: there is nothing to ␛[31mmeasure" in result.stderr
    stopped = finished_run(home, "stopped")
    result = workbench(arguments[0], stopped.id, *arguments[1:])
    assert result.exit_code == 1
    assert f"workbench resume {stopped.id}" in result.stderr


def test_an_empty_prompt_is_never_sent(home: Path, workbench: Workbench) -> None:
    run = make_run(home)
    result = workbench("sample", run.id, " \n")
    assert result.exit_code == 2
    assert inbox.pending(run.inbox) == []
