"""The application around the screens: keys, help, palette, keymap, sizes, leaving."""

import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_engine.runs.directory import find_run
from tests.cli.fakes import FakeEngine, make_run
from tests.tui.app.conftest import LaunchScreen, MonitorScreen, Told
from tests.tui.screen_text import screen_text
from tests.tui.viewer import settle
from workbench.app import WorkbenchApp
from workbench.keys import APP_KEYS, RUNS_KEYS, read_keymap
from workbench.screens.confirm import ConfirmScreen
from workbench.screens.help import HelpScreen
from workbench.screens.home import HomeScreen


def test_screens_start_without_torch() -> None:
    code = (
        "import sys, workbench.app, workbench.screens.home;"
        "print([m for m in ('torch', 'transformers', 'datasets', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_run_named_at_the_start_is_opened(several: Path) -> None:
    app = WorkbenchApp(several, open_run="held")
    async with app.run_test() as pilot:
        await settle(pilot)
        assert isinstance(app.screen, MonitorScreen)
        await pilot.press("1")
        assert isinstance(app.screen, HomeScreen)


async def test_unknown_run_at_the_start_leaves_the_list(several: Path, told: Told) -> None:
    app = WorkbenchApp(several, open_run="nothing")
    async with app.run_test() as pilot:
        await settle(pilot)
        assert isinstance(app.screen, HomeScreen)
        assert "no run 'nothing'" in told(app)[0]


async def test_form_is_kept_until_it_is_closed(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("2")
        form = app.screen
        assert isinstance(form, LaunchScreen)
        await pilot.press("1", "n")
        assert app.screen is form
        await pilot.press("escape")
        await settle(pilot)
        await pilot.press("2")
        assert isinstance(app.screen, LaunchScreen)
        assert app.screen is not form


async def test_help_lists_the_keys_of_the_screen(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 60)) as pilot:
        await settle(pilot)
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        shown = screen_text(app)
        for key in (*RUNS_KEYS, *APP_KEYS):
            assert key.label in shown
        await pilot.press("escape")
        assert isinstance(app.screen, HomeScreen)


async def test_palette_runs_a_command(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("ctrl+p")
        await settle(pilot)
        await pilot.press(*"delete")
        await settle(pilot)
        assert "Delete (D)" in screen_text(app)
        await pilot.press("enter")
        await settle(pilot)
        await pilot.pause(0.3)
        assert isinstance(app.screen, ConfirmScreen)


async def test_keymap_moves_a_key(several: Path, told: Told) -> None:
    (several / "keys.toml").write_text('[runs]\nfilter = "f"\n')
    app = WorkbenchApp(several)
    async with app.run_test() as pilot:
        await settle(pilot)
        assert told(app) == []
        await pilot.press("f", *"held")
        assert "1 of 6 runs" in screen_text(app)


async def test_wrong_keymap_is_named_and_not_fatal(several: Path, told: Told) -> None:
    (several / "keys.toml").write_text('"runs.stpo" = "s"\n"runs.delete" = 3\nnew = "hyper+q"\n')
    app = WorkbenchApp(several)
    async with app.run_test() as pilot:
        await settle(pilot)
        said = "\n".join(told(app))
        assert "'runs.stpo' is no key's id" in said
        assert "runs.stop" in said
        assert "runs.delete: write keys as text" in said
        await pilot.press("slash")
        assert app.focused is not None


def test_keymap_that_is_not_toml(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text("runs.stop = [")
    keymap, problems = read_keymap(path)
    assert keymap == {}
    assert "cannot be read" in problems[0]


async def test_small_terminal_says_what_it_needs(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.resize_terminal(59, 15)
        await settle(pilot)
        assert "needs 60x16, have 59x15" in screen_text(app)
        await pilot.resize_terminal(80, 24)
        await settle(pilot)
        assert isinstance(app.screen, HomeScreen)
        assert "killed" in screen_text(app)


async def test_leaving_says_that_engines_go_on(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(home, name="busy")
    with FakeEngine(run):
        app = WorkbenchApp(home)
        async with app.run_test() as pilot:
            await settle(pilot)
            await pilot.press("q")
        assert "1 run goes on" in capsys.readouterr().err


async def test_themes_differ_and_are_ours(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test() as pilot:
        await settle(pilot)
        assert app.current_theme.dark
        app.theme = "workbench-light"
        await settle(pilot)
        assert not app.current_theme.dark
        assert "killed" in screen_text(app)


async def test_small_terminal_at_the_start_opens_the_monitor_once_it_grows(several: Path) -> None:
    app = WorkbenchApp(several, open_run="held")
    async with app.run_test(size=(50, 12)) as pilot:
        await settle(pilot)
        assert "needs 60x16, have 50x12" in screen_text(app)
        await pilot.press("1", "2")
        assert "needs 60x16, have 50x12" in screen_text(app)
        await pilot.resize_terminal(80, 24)
        await settle(pilot)
        assert isinstance(app.screen, MonitorScreen)


async def test_launched_form_is_not_kept(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("2")
        form = app.screen
        app.open_monitor(find_run(several, "held"))
        await settle(pilot)
        assert isinstance(app.screen, MonitorScreen)
        await pilot.press("2")
        assert isinstance(app.screen, LaunchScreen)
        assert app.screen is not form
