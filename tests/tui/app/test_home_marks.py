"""The list of runs: marks for the comparison, a choice that a filter cannot take away, deletions
under the viewer's feet."""

import shutil
from pathlib import Path

import pytest

from rlhf_engine.runs.directory import RunDir, all_runs
from rlhf_engine.runs.writer import StoreWriter
from tests.cli.fakes import finished_run
from tests.tui.app.conftest import MonitorScreen, Told, ended
from tests.tui.screen_text import screen_text
from tests.tui.viewer import settle
from workbench.app import WorkbenchApp
from workbench.runs_list import RunsList
from workbench.screens.compare import CompareScreen
from workbench.screens.home_table import RunsTable


def chosen(app: WorkbenchApp) -> str:
    row = app.screen.query_one(RunsTable).current
    assert row is not None
    return row.name


async def test_space_marks_with_a_letter_and_goes_on(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("space", "space")
        assert "A ? lost" in screen_text(app)
        assert "B ■ stopped" in screen_text(app)
        assert "2 marked: c compares" in screen_text(app)
        assert chosen(app) == "no-memory"
        await pilot.press("up", "space")
        assert "B ■ stopped" not in screen_text(app)
        await pilot.press("escape")
        assert app.board.runs == []
        assert "A ? lost" not in screen_text(app)


async def test_a_fifth_mark_is_refused(several: Path, told: Told) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press(*["space"] * 5)
        assert len(app.board.runs) == 4
        assert "four runs are compared at most" in told(app)[-1]


async def test_c_compares_what_is_marked(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("space", "down", "space", "c")
        assert isinstance(app.screen, CompareScreen)
        assert [run.id[16:] for run in app.board.runs] == ["killed", "no-memory"]


async def test_c_without_marks_takes_the_chosen_run(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("down", "c")
        assert isinstance(app.screen, CompareScreen)
        assert [run.id[16:] for run in app.board.runs] == ["held"]


async def test_a_filter_that_hides_the_chosen_run_keeps_the_choice(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("down", "down")
        assert chosen(app) == "no-memory"
        await pilot.press("slash", *"demo", "enter")
        await settle(pilot)
        assert chosen(app) in ("demo-sft", "demo-ppo")
        await pilot.press("escape")
        await settle(pilot)
        assert chosen(app) == "no-memory"


async def test_a_choice_made_under_a_filter_stays(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("slash", *"demo", "enter")
        await settle(pilot)
        before = chosen(app)
        await pilot.press("up" if before == "demo-ppo" else "down")
        now = chosen(app)
        assert now != before
        await pilot.press("escape")
        await settle(pilot)
        assert chosen(app) == now


@pytest.mark.parametrize("key", ["enter", "r", "d", "D", "x", "space", "c"])
async def test_keys_on_a_run_that_was_deleted_meanwhile(several: Path, key: str) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        shutil.rmtree(next(iter(all_runs(several))).path)
        await pilot.press(key)
        await pilot.pause(0.2)
        while len(app.screen_stack) > 1:
            app.pop_screen()
        app.screen.look_again()  # type: ignore[attr-defined]
        await settle(pilot)
        assert "killed" not in [row.name for row in app.screen.query_one(RunsTable)._rows]
        assert app.board.runs == []


async def test_resume_of_a_deleted_run_says_so(several: Path, told: Told) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        shutil.rmtree(next(iter(all_runs(several))).path)
        await pilot.press("r")
        await settle(pilot)
        assert "was deleted meanwhile" in told(app)[-1]


async def test_a_home_whose_folder_goes_away_is_empty(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        assert isinstance(app.screen, MonitorScreen)
        shutil.rmtree(several / "runs")
        await pilot.press("escape")
        await settle(pilot)
        assert "No runs yet" in screen_text(app)


def test_runs_that_take_long_are_left_for_the_next_call(several: Path) -> None:
    runs = RunsList(several)
    assert [row.name for row in runs.read(seconds=0)] == ["killed"]
    assert runs.unread == 5
    assert len(runs.read()) == 6
    assert runs.unread == 0
    assert len(runs.read(seconds=0)) == 6


def test_a_run_that_is_being_deleted_is_gone(several: Path) -> None:
    runs = RunsList(several)
    assert len(runs.read()) == 6
    run = next(iter(all_runs(several)))
    run.spec_file.unlink()
    run.store.unlink()
    assert "killed" not in [row.name for row in runs.read()]


def test_the_device_is_the_one_that_the_run_was_given(home: Path) -> None:
    run = finished_run(home)
    store = StoreWriter(run.store)
    store.set_fact("device", "cuda:0")
    store.close()
    assert RunsList(home).read()[0].device == "cuda:0"


def test_a_lock_that_is_taken_again_is_noticed(home: Path) -> None:
    run: RunDir = ended(home, "20260301-110000", "again")
    runs = RunsList(home)
    (before,) = runs.read()
    assert runs.read()[0] is before
    run.lock.write_text("{}")
    assert runs.read()[0] is not before
