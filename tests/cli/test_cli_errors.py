"""Exit codes, and what a person reads when something is wrong."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from workbench.cli import main

from .fakes import PIPELINE, PPO, Workbench, finished_run

READ_VERBS = ["show", "metrics", "samples", "knobs", "commands", "events", "tail", "attach"]


@pytest.mark.parametrize("verb", [*READ_VERBS, "pause", "resume", "checkpoint", "stop"])
def test_a_run_that_does_not_exist_is_exit_3_with_the_nearest_id(
    home: Path, workbench: Workbench, verb: str
) -> None:
    run = finished_run(home)
    result = workbench(verb, run.id + "x")
    assert result.exit_code == 3
    assert f"did you mean {run.id!r}?" in result.stderr
    assert result.stdout == ""


def test_an_unknown_preset_names_the_nearest(workbench: Workbench) -> None:
    for verb in ("run", "check"):
        result = workbench(verb, "smoek")
        assert result.exit_code == 2
        assert "did you mean 'smoke'?" in result.stderr


def test_a_wrong_set_key_names_the_nearest_and_starts_nothing(
    home: Path, tmp_path: Path, workbench: Workbench
) -> None:
    preset = tmp_path / "toy.toml"
    preset.write_text(PPO)
    result = workbench("run", preset, "--set", "ppo.kl.coeff=1")
    assert result.exit_code == 2
    assert "did you mean 'ppo.kl.coef'?" in result.stderr
    assert not (home / "runs").exists()


def test_a_value_out_of_bounds_names_file_and_key(tmp_path: Path, workbench: Workbench) -> None:
    preset = tmp_path / "toy.toml"
    preset.write_text(PPO)
    result = workbench("run", preset, "--set", "kl_coef=-1")
    assert result.exit_code == 2
    assert "toy.toml: ppo.kl.coef" in result.stderr


@pytest.mark.parametrize("text", [PPO, PIPELINE])
def test_a_name_that_cannot_be_a_folder_is_refused(
    home: Path, tmp_path: Path, workbench: Workbench, text: str
) -> None:
    preset = tmp_path / "toy.toml"
    preset.write_text(text)
    result = workbench("run", preset, "--name", "My Run")
    assert result.exit_code == 2
    assert "--name: name" in result.stderr
    assert not (home / "runs").exists()


def test_a_pipeline_file_with_an_unusable_name_is_refused(
    tmp_path: Path, workbench: Workbench
) -> None:
    preset = tmp_path / "My Jobs.toml"
    preset.write_text(PIPELINE)
    result = workbench("run", preset)
    assert result.exit_code == 2
    assert "--name" in result.stderr


def test_an_input_run_that_does_not_exist_is_exit_3_before_anything_starts(
    home: Path, tmp_path: Path, workbench: Workbench
) -> None:
    preset = tmp_path / "toy.toml"
    preset.write_text(PIPELINE.replace("rule:vowels", "run:20200101-000000-nobody"))
    result = workbench("run", preset)
    assert result.exit_code == 3
    assert not (home / "runs").exists()


def test_usage_errors_are_exit_2(workbench: Workbench) -> None:
    assert workbench("lss").exit_code == 2
    assert workbench("set", "run").exit_code == 2


def test_home_stands_before_or_after_the_verb(tmp_path: Path) -> None:
    other = tmp_path / "other"
    run = finished_run(other_home(other))
    for arguments in (["--home", str(other), "ls"], ["ls", "--home", str(other)]):
        assert run.id in CliRunner().invoke(main, arguments).stdout


def other_home(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_home_that_cannot_be_made_says_so(tmp_path: Path, workbench: Workbench) -> None:
    file = tmp_path / "file"
    file.write_text("")
    result = workbench("--home", file / "below", "ls")
    assert result.exit_code == 2
    assert "--home" in result.stderr


def test_a_damaged_store_is_a_sentence_not_a_traceback(home: Path, workbench: Workbench) -> None:
    run = finished_run(home)
    run.store.write_bytes(b"not a database at all" * 100)
    result = workbench("metrics", run.id)
    assert result.exit_code == 1
    assert "store cannot be read" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["attach", "last"]])
def test_without_a_terminal_the_screens_name_the_verbs_instead(
    home: Path, workbench: Workbench, arguments: list[str]
) -> None:
    finished_run(home)
    result = workbench(*arguments)
    assert result.exit_code == 2
    assert "demo --headless" in result.stderr
