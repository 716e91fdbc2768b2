"""What the read verbs print, for people and for programs."""

import shutil
from pathlib import Path

from rlhf_engine.job.knobs import knobs_of
from rlhf_engine.job.spec import PpoSpec
from rlhf_engine.runs.inbox import send
from rlhf_engine.runs.sample import Sample
from rlhf_engine.runs.writer import StoreWriter

from .fakes import FakeEngine, Records, Workbench, evaluated_run, finished_run, make_run


def test_ls_shows_newest_first_with_stage_state_and_step(
    home: Path, workbench: Workbench, records: Records
) -> None:
    done = finished_run(home, name="first")
    failed = finished_run(home, "failed", "out of memory at \x1b[31mstep 3", name="second")
    newest, oldest = sorted([done.id, failed.id], reverse=True)
    assert [record["id"] for record in records("ls")] == [newest, oldest]
    by_id = {record["id"]: record for record in records("ls")}
    assert by_id[failed.id]["state"] == "failed"
    assert by_id[done.id] | {"path": ""} == {
        "id": done.id,
        "stage": "ppo",
        "state": "done",
        "detail": "",
        "step": 3,
        "total_steps": 3,
        "path": "",
    }
    table = workbench("ls").stdout
    assert "3/3" in table
    assert "out of memory" in table
    assert "\x1b" not in table
    assert all(len(line) <= 80 for line in table.splitlines())


def test_an_empty_home_says_how_to_start(workbench: Workbench) -> None:
    result = workbench("ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "workbench demo" in result.stderr


def test_metrics_have_one_object_a_step_with_knobs_and_nan_as_null(
    home: Path, records: Records
) -> None:
    run = finished_run(home)
    steps = records("metrics", run.id)
    assert [step["step"] for step in steps] == [1, 2, 3]
    assert steps[0].items() >= {"score": 0.25, "kl": 1.0, "kl_coef": 0.05, "session": 1}.items()
    assert steps[1]["gold"] is None
    assert steps[0].items() >= {"seconds_generate": 0.5, "seconds_read_data": 0.25}.items()
    assert [step["step"] for step in records("metrics", run.id, "--last", "1")] == [3]


def test_metrics_table_fits_the_terminal_and_says_what_it_leaves_out(
    home: Path, workbench: Workbench
) -> None:
    result = workbench("metrics", finished_run(home).id)
    header, _, second, _ = result.stdout.splitlines()
    assert header.split()[:5] == ["step", "score", "gold", "kl", "kl_coef"]
    assert second.split()[:5] == ["2", "0.5", "–", "2", "0.05"]
    assert max(map(len, result.stdout.splitlines())) <= 80
    figures = {"score", "kl", "gold", "seconds_generate", "seconds_read_data", *knobs_of(PpoSpec)}
    left_out = len(figures) + 1 - len(header.split())
    assert left_out > 0
    assert result.stderr == f"{left_out} more figures with --json\n"


def test_samples_never_carry_control_characters(
    home: Path, workbench: Workbench, records: Records
) -> None:
    run = finished_run(home)
    shown = workbench("samples", run.id).stdout
    assert "hi ␛]2;3␇" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown
    rows = records("samples", run.id)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[0]["prompt"] == "Say hi"
    assert "logp" not in rows[0]
    assert records("samples", run.id, "--tokens", "--step", "2")[0]["logp"] == []


def test_tokens_come_with_what_each_was_paid_at_its_own_step(home: Path, records: Records) -> None:
    run = make_run(home)
    store = StoreWriter(run.store)
    store.start_session(None)
    for step, coef in ((1, 0.5), (2, 0.25)):
        told = Sample(
            kind="train",
            prompt_id="p",
            prompt="Say hi",
            response="hi!",
            finished=True,
            score=1.0,
            tokens=(1, 2),
            logp=(-1.0, -2.0),
            ref_logp=(-2.0, -2.0),
        )
        store.samples(step, [told])
        store.step(step, {}, {"kl_coef": coef}, {})
    store.close()
    rows = records("samples", run.id, "--tokens")
    assert [row["rewards"] for row in rows] == [[-0.5, 1.0], [-0.25, 1.0]]
    assert "rewards" not in records("samples", run.id)[0]


def test_events_never_carry_control_characters(
    home: Path, workbench: Workbench, records: Records
) -> None:
    run = finished_run(home)
    assert "KL ␛[31mrises" in workbench("events", run.id).stdout
    assert records("events", run.id)[0]["kind"] == "kl"


def test_knobs_show_bounds_values_and_who_set_them(
    home: Path, workbench: Workbench, records: Records
) -> None:
    run = finished_run(home)
    knob = next(record for record in records("knobs", run.id) if record["name"] == "kl_coef")
    assert knob["value"] == 0.05
    assert knob["path"] == "ppo.kl.coef"
    assert [change["source"] for change in knob["changes"]] == ["config"]
    assert "0 <= kl_coef <= 10" in workbench("knobs", run.id).stdout


def test_knobs_of_a_run_without_a_store_are_those_of_its_spec(home: Path, records: Records) -> None:
    run = make_run(home)
    values = {record["name"]: record["value"] for record in records("knobs", run.id)}
    assert values["kl_target"] == 6.0
    assert records("metrics", run.id) == []


def test_commands_include_those_that_still_wait(
    home: Path, workbench: Workbench, records: Records
) -> None:
    run = finished_run(home)
    command_id = send(run.inbox, "set", {"knob": "kl_coef", "value": 0.3})
    (record,) = records("commands", run.id)
    assert (record["id"], record["state"], record["step"]) == (command_id, "waiting", None)
    assert "kl_coef = 0.3" in workbench("commands", run.id).stdout


def test_show_tells_state_figures_files_and_how_to_go_on(
    home: Path, workbench: Workbench, records: Records
) -> None:
    run = finished_run(home, "failed", "CUDA out of memory")
    shown = workbench("show", run.id).stdout
    assert "failed: CUDA out of memory" in shown
    assert f"workbench resume {run.id}" in shown
    (record,) = records("show", run.id)
    assert record["spec"]["ppo"]["kl"]["coef"] == 0.05
    assert record["metrics"]["kl"] == 3.0


def test_show_of_an_evaluation_prints_its_table_with_the_reward_models_accuracy(
    home: Path, workbench: Workbench, records: Records
) -> None:
    run = evaluated_run(home)
    shown = workbench("show", run.id).stdout
    assert "held-out accuracy of the reward model: 0.812" in shown
    assert "+1.73" in shown
    (record,) = records("show", run.id)
    assert record["result"]["prompts"] == 60


def test_show_survives_a_parent_whose_folder_is_gone(
    home: Path, workbench: Workbench, records: Records
) -> None:
    run = evaluated_run(home)
    (record,) = records("show", run.id)
    shutil.rmtree(home / "runs" / record["reads"][0])
    result = workbench("show", run.id)
    assert result.exit_code == 0
    assert "(gone)" in result.stdout


def test_a_living_run_is_shown_with_what_it_does(home: Path, workbench: Workbench) -> None:
    run = make_run(home)
    with FakeEngine(run):
        assert "running: generate 3/32 responses" in workbench("show", run.id).stdout


def test_tail_tells_each_step_once_until_the_run_ends(home: Path, records: Records) -> None:
    run = make_run(home)
    with FakeEngine(run, steps=60):
        told = records("tail", run.id, "--last", "1000")
    assert [r["step"] for r in told if r["record"] == "step"] == list(range(1, 61))
    assert told[-1]["state"] == "done"


def test_tail_of_an_ended_run_starts_with_its_last_steps(home: Path, workbench: Workbench) -> None:
    result = workbench("tail", finished_run(home).id, "--last", "2")
    assert "step 1 " not in result.stdout
    assert "score 0.5  kl 2" in result.stdout.replace("gold –  ", "")
    assert "score 0.75" in result.stdout
    assert "\x1b" not in result.stdout
