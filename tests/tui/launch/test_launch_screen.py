"""The form by its keys: choosing, typing, launching, leaving."""

from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from textual.widgets import Select

from rlhf_engine.job.spec import PpoSpec
from rlhf_engine.runs.directory import RunDir, all_runs
from tests.tui.launch.shown import (
    App,
    estimated,
    focus,
    launch_screen,
    says,
    type_over,
)
from tests.tui.screen_text import screen_text
from tests.tui.viewer import Viewer
from workbench.screens.launch import LaunchScreen


async def test_a_changed_field_reaches_run_toml_and_the_monitor_opens(
    home: Path, started: list[RunDir]
) -> None:
    async with launch_screen(home) as (pilot, screen):
        row = await type_over(pilot, screen, "ppo.kl.coef", "0.2")
        assert "was 0.05" in str(row.render())
        assert says(screen, "command") == f"workbench run tiny --home {home} --set ppo.kl.coef=0.2"
        assert "0.05 → 0.2" in says(screen, "difference")
        await pilot.press("ctrl+g")
        await pilot.pause()
        (run,) = all_runs(home)
        spec = run.spec()
        assert isinstance(spec, PpoSpec)
        assert spec.ppo.kl.coef == 0.2
        assert started == [run]
        assert isinstance(pilot.app, App)
        assert pilot.app.opened == run


async def test_an_invalid_value_is_refused_with_the_specs_words_and_stays(
    home: Path, started: list[RunDir]
) -> None:
    async with launch_screen(home) as (pilot, screen):
        row = await type_over(pilot, screen, "ppo.kl.coef", "11")
        wrong = "input should be less than or equal to 10, not 11"
        assert wrong in says(screen, "help")
        assert f"ppo.kl.coef: {wrong}" in says(screen, "summary")
        await pilot.press("ctrl+g")
        await pilot.pause()
        assert not list(all_runs(home))
        assert pilot.app.screen is screen
        assert row.form.text(0, row.field) == "11"
        await pilot.press("backspace")
        await pilot.pause()
        assert "ready" in says(screen, "summary")


async def test_a_stage_of_a_pipeline_is_edited_by_keyboard(
    home: Path, started: list[RunDir]
) -> None:
    async with launch_screen(home, "both") as (pilot, screen):
        await pilot.press("ctrl+pagedown")
        await pilot.pause()
        await type_over(pilot, screen, "seed", "5")
        assert says(screen, "command") == f"workbench run both --home {home} --set second:seed=5"
        await pilot.press("tab", "tab", *"mine", "enter", "enter")
        await pilot.pause()
        assert [(run.id[16:], run.spec().seed) for run in started] == [
            ("mine-first", 0),
            ("mine-second", 5),
        ]


async def test_arrows_walk_the_fields_and_left_and_right_choose(home: Path) -> None:
    async with launch_screen(home) as (pilot, screen):
        await focus(pilot, screen, "ppo.micro_batch_size")
        await pilot.press("enter", "right", "down", "right", "up")
        await pilot.pause()
        assert says(screen, "command").endswith("--set ppo.advantage=rloo --set ppo.value=shared")
        await pilot.press("u")
        await pilot.pause()
        assert says(screen, "command") == f"workbench run tiny --home {home} --set ppo.value=shared"


async def test_u_is_a_letter_in_a_text_and_ctrl_t_undoes_it(home: Path) -> None:
    async with launch_screen(home) as (pilot, screen):
        await type_over(pilot, screen, "data.split", "u")
        assert says(screen, "command") == f"workbench run tiny --home {home} --set data.split=u"
        await pilot.press("ctrl+t")
        await pilot.pause()
        assert says(screen, "command") == f"workbench run tiny --home {home}"


async def test_another_preset_and_back_keeps_what_was_typed(home: Path) -> None:
    async with launch_screen(home) as (pilot, screen):
        await type_over(pilot, screen, "seed", "3")
        for source in ("both", "tiny"):
            await screen.choose(source)
            await pilot.pause()
        assert says(screen, "command") == f"workbench run tiny --home {home} --set seed=3"


async def test_escape_asks_before_it_drops_changes(home: Path) -> None:
    async with launch_screen(home) as (pilot, screen):
        await type_over(pilot, screen, "seed", "3")
        await pilot.press("escape", "n")
        await pilot.pause()
        assert pilot.app.screen is screen
        await pilot.press("escape", "y")
        await pilot.pause()
        assert not isinstance(pilot.app.screen, LaunchScreen)


async def test_escape_leaves_an_untouched_form_at_once(home: Path) -> None:
    async with launch_screen(home) as (pilot, _):
        await pilot.press("escape")
        await pilot.pause()
        assert not isinstance(pilot.app.screen, LaunchScreen)


async def test_the_spec_of_a_run_is_launched_again(home: Path, started: list[RunDir]) -> None:
    async with launch_screen(home) as (pilot, _):
        await pilot.press("ctrl+g")
    run = started[0]
    app = App(home)
    async with app.run_test() as pilot:
        app.open_form(spec=run.spec())
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, LaunchScreen)
        assert says(screen, "command") == f"workbench run {run.spec_file} --home {home}"
        await pilot.press("ctrl+g")
        await pilot.pause()
    assert started[1].spec() == run.spec()


async def test_a_hostile_preset_is_shown_as_plain_text(
    home: Path, presets: Path, started: list[RunDir]
) -> None:
    text = (presets / "tiny.toml").read_text(encoding="utf-8")
    text = text.replace("# Vowels", "# [/b] [red]").replace(
        "[data]\n", '[data]\nsystem = "[/INST] \\u001b]2;mine\\u0007\\n[bold]"\n'
    )
    (presets / "tiny.toml").write_text(text, encoding="utf-8")
    async with launch_screen(home) as (pilot, screen):
        assert "[/b] [red]" in screen_text(pilot.app)
        await type_over(pilot, screen, "reward.score", "[red]")
        assert "'[red]' is no reward" in says(screen, "summary")
        assert "\x1b" not in screen_text(pilot.app)


async def test_a_preset_that_cannot_be_read_leaves_the_others(home: Path, presets: Path) -> None:
    (presets / "both.toml").write_text("stage = [", encoding="utf-8")
    async with launch_screen(home, "both") as (pilot, screen):
        await screen.choose("tiny")
        await pilot.pause()
        assert says(screen, "command") == f"workbench run tiny --home {home}"


async def test_a_narrow_terminal_chooses_presets_from_a_list(home: Path) -> None:
    async with launch_screen(home, size=(80, 24)) as (pilot, screen):
        assert not screen.query_one("#left").region
        screen.query_one("#preset", Select).focus()
        await pilot.press("enter", "up", "enter")
        await pilot.pause()
        assert says(screen, "command") == f"workbench run both --home {home}"


@pytest.mark.usefixtures("usual_home")
@pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=["120x40", "80x24"])
async def test_picture(home: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    async with launch_screen(home, "both", size) as (pilot, screen):
        await pilot.press("ctrl+pagedown")
        await pilot.pause()
        await type_over(pilot, screen, "ppo.kl.target", "8")
        await type_over(pilot, screen, "ppo.kl.coef", "-1")
        assert await Viewer(screen.app, pilot).picture(snapshot) == snapshot


@pytest.mark.usefixtures("usual_home")
@pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=["120x40", "80x24"])
async def test_picture_of_a_form_that_can_start(
    home: Path, size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    async with launch_screen(home, "tiny", size) as (pilot, screen):
        await type_over(pilot, screen, "seed", "3")
        await estimated(pilot, screen)
        assert await Viewer(screen.app, pilot).picture(snapshot) == snapshot
