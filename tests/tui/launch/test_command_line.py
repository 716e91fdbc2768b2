"""The command line of a form makes, through the real verbs, the runs that the form launches."""

import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlhf_engine.job.spec import Spec
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import create
from tests.tui.launch.test_form_model import field
from workbench.cli import main
from workbench.form_model import Form

NASTY = """it's $HOME; `x` "q" \\ *"""


def pasted(command: str, monkeypatch: pytest.MonkeyPatch) -> list[Spec]:
    """What a shell would start; `cd` is done for it."""
    words = shlex.split(command)
    if words[0] == "cd":
        monkeypatch.chdir(words[1])
        words = words[3:]
    assert words[0] == "workbench"
    result = CliRunner().invoke(main, [*words[1:], "--no-start"])
    assert result.exit_code == 0, result.stderr
    return [RunDir(Path(line)).spec() for line in result.stdout.splitlines()]


def launched(form: Form) -> list[Spec]:
    verdict = form.check()
    assert verdict.preset is not None, verdict.problems
    return [run.spec() for run in create(form.home, verdict.preset, form.title)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another home in the environment, as another shell may have it."""
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "other"))
    return tmp_path


def test_every_kind_of_value_survives_the_shell(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = Form.open("tiny", home)
    form.name = "mine"
    typed = {
        "data.system": NASTY,
        "data.split": "7",
        "data.columns": 'prompt = "the question"',
        "changes": '[{"step": 3, "knob": "kl_coef", "value": 0.1}]',
        "reward.gold": f'["rule:vowels", "{Path(__file__)}:score it\'s"]',
        "ppo.whiten_rewards": "true",
        "ppo.kl.estimator": "k3",
        "threads": "2",
    }
    for key, text in typed.items():
        form.type(0, field(form, key), text)
    preset = form.check().preset
    assert pasted(form.command(preset), monkeypatch) == launched(form)
    assert preset is not None
    assert preset.stages[0].data.system == NASTY


def test_relative_paths_and_a_file_work_from_any_folder(
    home: Path, presets: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = elsewhere / "it's here"
    folder.mkdir()
    shutil.copy(presets / "tiny.toml", folder / "job $1.toml")
    (folder / "rows.jsonl").write_text("")
    monkeypatch.chdir(folder)
    form = Form.open("job $1.toml", home)
    form.type(0, field(form, "data.path"), "rows.jsonl")
    command, wanted = form.command(form.check().preset), launched(form)
    monkeypatch.chdir("/")
    (found,) = pasted(command, monkeypatch)
    assert [found] == wanted
    assert found.data.path == str(folder / "rows.jsonl")


def test_a_pipeline_is_pasted_stage_by_stage(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form = Form.open("both", home)
    form.type(0, field(form, "seed"), "7")
    form.type(1, field(form, "seed", 1), "9")
    specs = pasted(form.command(form.check().preset), monkeypatch)
    assert [spec.seed for spec in specs] == [7, 9]
    assert [spec.name for spec in specs] == [spec.name for spec in launched(form)]


def test_the_usual_home_needs_no_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBENCH_HOME")
    monkeypatch.setattr("platformdirs.user_data_dir", lambda _: str(tmp_path))
    assert Form.open("tiny", tmp_path.resolve()).command() == "workbench run tiny"
