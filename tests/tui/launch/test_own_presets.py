"""Presets of one's own: saved from the form, listed, found by the verbs, never half written."""

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from textual.widgets import Input, OptionList

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import load_preset
from tests.tui.fake_run import HOSTILE
from tests.tui.launch.shown import launch_screen, says, type_over
from tests.tui.launch.test_form_model import field
from tests.tui.screen_text import screen_text
from workbench.cli import main
from workbench.form_model import Form
from workbench.own_presets import name_problem, save_preset
from workbench.screens.name_preset import NamePreset


def saved(form: Form, name: str) -> Path:
    preset = form.check().preset
    assert preset is not None, form.check().problems
    return save_preset(form, preset, name)


def test_a_saved_preset_means_what_the_form_meant_and_keeps_comments(
    home: Path, presets: Path
) -> None:
    source = presets / "tiny.toml"
    source.write_text(source.read_text().replace("steps = 60", "steps = 60 # a minute"))
    form = Form.open("tiny", home)
    form.type(0, field(form, "ppo.kl.coef"), "0.2")
    form.type(0, field(form, "data.columns"), '{prompt = "the question"}')
    form.type(0, field(form, "changes"), '[{step = 3, knob = "kl_coef", value = 0.1}]')
    wanted = form.check().preset
    path = saved(form, "mine")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["mine.toml"]
    text = path.read_text()
    assert "steps = 60 # a minute" in text
    assert text.startswith("# Vowels, quickly. From tiny with")
    again = load_preset("mine", home=home)
    assert wanted is not None
    assert again.stages == (wanted.stages[0].model_copy(update={"name": "mine"}),)


def test_a_pipeline_changes_the_stage_alone_and_empties_what_was_shared(
    home: Path, presets: Path
) -> None:
    source = presets / "both.toml"
    source.write_text(source.read_text().replace('device = "cpu"', 'device = "cpu"\nthreads = 2'))
    form = Form.open("both", home)
    form.type(1, field(form, "threads", 1), "")
    form.type(1, field(form, "lora.r", 1), "4")
    wanted = form.check().preset
    saved(form, "mine")
    again = load_preset("mine", home=home)
    assert wanted is not None
    assert again.stages == wanted.stages
    assert [spec.threads for spec in again.stages] == [2, None]


def test_relative_paths_are_saved_absolute(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it's.jsonl").write_text("")
    form = Form.open("tiny", home)
    form.type(0, field(form, "data.path"), "it's.jsonl")
    saved(form, "mine")
    assert load_preset("mine", home=home).stages[0].data.path == str(tmp_path / "it's.jsonl")


def test_nothing_is_written_where_it_would_not_mean_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = Form.open("tiny", home)
    monkeypatch.setattr("workbench.own_presets.preset_text", lambda *_: 'stage = "sft"')
    with pytest.raises(SpecError):
        saved(form, "mine")
    assert not (home / "presets").exists()


@pytest.mark.parametrize("name", ["", "../x", "No", "tiny", "a b", HOSTILE, "x" * 70])
def test_names_that_are_refused(home: Path, name: str) -> None:
    assert name_problem(home, name)


def test_the_verbs_find_an_own_preset_and_tell_a_broken_one(home: Path) -> None:
    saved(Form.open("tiny", home), "mine")
    (home / "presets" / "broken.toml").write_text("stage = [")
    listed = CliRunner().invoke(main, ["presets", "--home", str(home)])
    assert "(yours) Vowels, quickly. From tiny." in listed.stdout
    assert "broken cannot be used" in listed.stderr
    made = CliRunner().invoke(main, ["run", "mine", "--home", str(home), "--no-start"])
    assert made.exit_code == 0
    assert made.stdout.strip().endswith("-mine")


async def test_s_saves_under_a_name_and_the_list_shows_it(home: Path) -> None:
    async with launch_screen(home) as (pilot, screen):
        await type_over(pilot, screen, "seed", "3")
        await pilot.press("ctrl+s")
        await pilot.pause()
        asking = pilot.app.screen
        assert isinstance(asking, NamePreset)
        assert asking.query_one(Input).value == "tiny-mine"
        await pilot.press("enter")
        await pilot.pause()
        assert pilot.app.screen is screen
        assert says(screen, "command") == f"workbench run tiny-mine --home {home}"
        assert "tiny-mine (yours)" in screen_text(pilot.app)
        assert screen.query_one("#presets", OptionList).option_count == 3
    assert load_preset("tiny-mine", home=home).stages[0].seed == 3


async def test_a_name_that_is_taken_is_asked_about(home: Path) -> None:
    path = saved(Form.open("tiny", home), "mine")
    before = path.read_text()
    async with launch_screen(home, "mine") as (pilot, screen):
        await type_over(pilot, screen, "seed", "3")
        await pilot.press("ctrl+s", "enter")
        await pilot.pause()
        assert "enter again replaces it" in screen_text(pilot.app)
        assert path.read_text() == before
        await pilot.press("escape")
        await pilot.pause()
        assert path.read_text() == before
        await pilot.press("ctrl+s", "enter", "enter")
        await pilot.pause()
    assert load_preset("mine", home=home).stages[0].seed == 3


async def test_a_shipped_name_and_an_invalid_form_are_not_saved(home: Path) -> None:
    async with launch_screen(home) as (pilot, screen):
        await pilot.press("ctrl+s", "end", *("backspace",) * 5, "enter")
        await pilot.pause()
        assert "tiny is a shipped preset" in screen_text(pilot.app)
        await pilot.press("escape")
        await type_over(pilot, screen, "seed", "x")
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert pilot.app.screen is screen
    assert not (home / "presets").exists()
