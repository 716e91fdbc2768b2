"""Starting runs, watching them to their end, the demo, and the engine's own verbs."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlhf_engine.runs.directory import RunDir, all_runs, find_run
from rlhf_engine.runs.state import run_state

from .fakes import PIPELINE, PPO, RESULT, FakeEngine, Records, Workbench, finished_run

Start = Callable[..., None]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Let a fake engine start where a real one would; give it its manners."""
    started: list[FakeEngine] = []

    def play(**manners: dict[str, Any]) -> None:
        def start(run: RunDir) -> None:
            kind = run.spec().stage
            result = RESULT if kind == "evaluate" else None
            engine = FakeEngine(run, result=result, **(manners.get(kind, {"steps": 30})))
            started.append(engine.__enter__())

        monkeypatch.setattr("rlhf_engine.runs.launch.start_engine", start)

    yield play
    for engine in started:
        engine.end()


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.toml"
    path.write_text(PIPELINE)
    return path


def test_run_prints_one_id_a_line_and_talks_on_stderr(
    home: Path, workbench: Workbench, engines: Start, pipeline: Path
) -> None:
    engines()
    result = workbench("run", pipeline, "--name", "mine", "--set", "seed=7")
    first, second = result.stdout.split()
    assert (first[16:], second[16:]) == ("mine-sft", "mine-evaluate")
    assert find_run(home, first).spec().seed == 7
    assert find_run(home, second).spec().policy == f"run:{first}"
    assert "workbench attach" in result.stderr


def test_run_wait_tells_progress_until_all_are_done(
    workbench: Workbench, engines: Start, pipeline: Path
) -> None:
    engines()
    result = workbench("run", pipeline, "--wait")
    assert result.exit_code == 0
    assert len(result.stdout.split()) == 2
    assert re.search(r"\d:\d\d  jobs-sft +done +· step 30/30 · score 7.5", result.stderr)


def test_run_wait_fails_when_one_run_does_and_shows_its_log(
    workbench: Workbench, engines: Start, pipeline: Path, home: Path
) -> None:
    engines(evaluate={"steps": 3, "outcome": "failed"})
    result = workbench("run", pipeline, "--wait")
    assert result.exit_code == 1
    failed = result.stdout.split()[1]
    assert f"{failed}: failed" in result.stderr
    assert f"workbench resume {failed}" in result.stderr


def test_presets_are_listed_with_their_first_comment(
    workbench: Workbench, records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy.toml").write_text(PPO)
    monkeypatch.setattr("rlhf_engine.job.presets.preset_folder", lambda: tmp_path)
    assert workbench("presets").stdout == "toy  A toy PPO job.\n"
    (record,) = records("presets")
    assert (record["name"], record["stages"]) == ("toy", ["ppo"])


@pytest.fixture
def demo_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ppo = 'policy = "stage:sft"\nreward.score = "rule:vowels"\n[[stages]]\nstage = "evaluate"'
    text = PIPELINE.replace('stage = "evaluate"', f'stage = "ppo"\n{ppo}')
    (tmp_path / "demo.toml").write_text(text)
    monkeypatch.setattr("rlhf_engine.job.presets.preset_folder", lambda: tmp_path)


@pytest.mark.usefixtures("demo_preset")
def test_headless_demo_ends_with_the_table_on_stdout(
    home: Path, workbench: Workbench, engines: Start
) -> None:
    engines()
    result = workbench("demo", "--seed", "5", "--set", "sft.batches.epochs=2")
    assert result.exit_code == 0
    assert result.stdout.startswith("60 held-out prompts")
    assert "demo-sft" in result.stderr
    specs = {run.id[16:]: run.spec() for run in all_runs(home)}
    assert {spec.seed for spec in specs.values()} == {5}
    assert specs["demo-sft"].model_dump()["sft"]["batches"]["epochs"] == 2


@pytest.mark.usefixtures("demo_preset")
def test_a_demo_that_fails_says_which_stage_and_prints_no_table(
    workbench: Workbench, engines: Start
) -> None:
    engines(sft={"steps": 3, "outcome": "failed"}, evaluate={"steps": 3, "outcome": "cancelled"})
    result = workbench("demo", "--headless")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "demo-sft: failed" in result.stderr


@pytest.fixture
def screens(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Pretend a terminal, and screens that close once a run has ended; the runs they opened on."""
    opened: list[str | None] = []

    class App:
        def __init__(self, home: Path, open_run: str | None = None) -> None:
            self.home = home
            opened.append(open_run)

        def run(self) -> None:
            while not any(run_state(run).ended for run in all_runs(self.home)):
                time.sleep(0.05)

    monkeypatch.setitem(sys.modules, "workbench.app", SimpleNamespace(WorkbenchApp=App))
    for module in ("workbench.commands.screens", "workbench.demo"):
        monkeypatch.setattr(f"{module}.has_terminal", lambda: True)
    return opened


@pytest.mark.usefixtures("demo_preset")
def test_a_demo_whose_screens_are_closed_goes_on_and_says_how_to_come_back(
    home: Path, workbench: Workbench, engines: Start, screens: list[str | None]
) -> None:
    engines(sft={})
    result = workbench("demo")
    assert (result.exit_code, result.stdout) == (0, "")
    by_stage = {run.spec().stage: run.id for run in all_runs(home)}
    assert screens == [None], "on the list of runs"
    assert f"workbench show {by_stage['evaluate']}" in result.stderr


@pytest.mark.usefixtures("demo_preset")
def test_a_demo_that_fails_behind_the_screens_fails(
    workbench: Workbench, engines: Start, screens: list[str | None]
) -> None:
    engines(sft={"steps": 0, "outcome": "failed"}, ppo={}, evaluate={})
    result = workbench("demo")
    assert result.exit_code == 1
    assert "demo-sft: failed" in result.stderr


def test_without_a_verb_the_screens_open_and_attach_opens_one_run(
    home: Path, workbench: Workbench, screens: list[str | None]
) -> None:
    run = finished_run(home)
    assert workbench().exit_code == 0
    assert workbench("attach", "last").exit_code == 0
    assert screens == [None, run.id]


def _play_check(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    def command(module: str, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-c", script, module, *map(str, arguments)]

    monkeypatch.setattr("workbench.commands.common.engine_command", command)


CHECK = """
import json, os, sys, tomllib
assert sys.argv[1] == "rlhf_engine.check"
for path in sys.argv[2:]:
    spec = tomllib.load(open(path, "rb"))
    told = {"level": "%s", "stage": spec["name"], "what": spec["data"]["path"] + " \\x1b[1m"}
    print(json.dumps(told), flush=True)
print(os.environ["WORKBENCH_HOME"], file=sys.stderr)
sys.exit(%d)
"""


def test_check_hands_resolved_specs_to_the_engine_and_shows_what_it_finds(
    home: Path,
    workbench: Workbench,
    records: Records,
    pipeline: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(pipeline.parent)
    Path("rows.jsonl").write_text("{}")
    _play_check(monkeypatch, CHECK % ("ok", 0))
    shown = workbench("check", pipeline)
    assert shown.exit_code == 0
    assert "the spec is valid (sft, evaluate)" in shown.stderr
    assert "␛[1m" in shown.stdout
    found = records("check", pipeline)
    assert [record["stage"] for record in found] == ["sft", "evaluate"]
    assert str(pipeline.parent.resolve() / "rows.jsonl") in found[0]["what"]
    assert list(all_runs(home)) == []


def test_check_fails_when_the_engine_finds_an_error(
    workbench: Workbench, pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _play_check(monkeypatch, CHECK % ("error", 1))
    result = workbench("check", pipeline)
    assert result.exit_code == 1
    assert "errors: 2, warnings: 0" in result.stderr


def test_a_check_that_breaks_is_not_taken_for_a_finding(
    workbench: Workbench, pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _play_check(monkeypatch, "import os; os._exit(7)")
    result = workbench("check", pipeline)
    assert result.exit_code == 1
    assert "code 7" in result.stderr


def test_export_refuses_a_folder_that_holds_something(
    home: Path, tmp_path: Path, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _play_check(monkeypatch, "raise SystemExit('must not start')")
    run = finished_run(home)
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("precious")
    result = workbench("export", run.id, full)
    assert result.exit_code == 2
    assert "not an empty folder" in result.stderr


def test_export_hands_the_run_over_and_passes_the_exit_code_on(
    home: Path, tmp_path: Path, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, told = finished_run(home), tmp_path / "told"
    script = f"import json, sys; json.dump(sys.argv[1:], open({str(told)!r}, 'w')); sys.exit(5)"
    _play_check(monkeypatch, script)
    result = workbench("export", run.id, tmp_path / "out", "--merge")
    assert result.exit_code == 5
    expected = ["rlhf_engine.export", str(run.path), str(tmp_path / "out"), "--merge"]
    assert json.loads(told.read_text()) == expected
