"""The runs of a pipeline in one row: each with its state, wherever one of them is looked at."""

import shutil
from pathlib import Path

from textual.app import App, ComposeResult
from textual.pilot import Pilot

from rlhf_engine.job.presets import load_preset
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import launch
from rlhf_engine.runs.pipeline import pipeline_of
from rlhf_engine.runs.writer import StoreWriter
from tests.tui.fake_run import alive, folder
from tests.tui.launch.shown import until
from tests.tui.screen_text import screen_text
from workbench.app import WorkbenchApp
from workbench.screens.monitor import MonitorScreen
from workbench.widgets.pipeline_row import PipelineRow, row_text, stage_states


class Shown(App[None]):
    def __init__(self, run: RunDir) -> None:
        super().__init__()
        self.run_shown = run
        self.opened: list[RunDir] = []

    def compose(self) -> ComposeResult:
        yield PipelineRow(self.run_shown)

    def on_pipeline_row_opened(self, message: PipelineRow.Opened) -> None:
        self.opened.append(message.run)


def pipeline(home: Path, started: list[RunDir]) -> list[RunDir]:
    runs = launch(home, load_preset("both"))
    assert started == runs
    return runs


def at_step(run: RunDir, step: int, total: int) -> StoreWriter:
    store = StoreWriter(run.store)
    store.set_fact("total_steps", str(total))
    store.start_session(None)
    store.progress("running", "update", 1, 2, "")
    with store.transaction():
        for number in range(1, step + 1):
            store.step(number, {"loss": 1.0}, {}, {}, {})
    return store


def test_each_run_of_a_pipeline_knows_the_others(home: Path, started: list[RunDir]) -> None:
    runs = pipeline(home, started)
    for run in runs:
        assert pipeline_of(run) == dict(zip(("first", "second"), runs, strict=True))
    assert pipeline_of(folder(home)) == {}


def test_a_broken_note_is_no_pipeline(home: Path, started: list[RunDir]) -> None:
    run = pipeline(home, started)[0]
    for text in ("[1", "[1]", ""):
        run.pipeline_file.write_text(text)
        assert stage_states(run) == []


def test_states_are_words_and_a_running_one_says_how_far(home: Path, started: list[RunDir]) -> None:
    first, second = pipeline(home, started)
    at_step(first, 4, 10)
    with alive(first):
        states = stage_states(second)
        assert row_text(states, second).plain == "first running 40 % → [second starting]"
    shutil.rmtree(first.path)
    assert row_text(stage_states(second), second).plain.startswith("first deleted → ")


async def test_keys_choose_and_open_another_run(home: Path, started: list[RunDir]) -> None:
    first, second = pipeline(home, started)
    app = Shown(first)
    async with app.run_test() as pilot:
        await until(pilot, lambda: "[first starting] → second starting" in screen_text(app))
        app.query_one(PipelineRow).focus()
        await pilot.press("enter", "left", "enter")
        assert app.opened == []
        await pilot.press("right", "right", "enter")
        await pilot.pause()
        assert app.opened == [second]
        await pilot.click(PipelineRow, offset=(25, 0))
        await pilot.pause()
        assert app.opened == [second, second]


async def test_a_click_finds_a_run_in_the_second_line_of_a_row_that_wraps(
    home: Path, started: list[RunDir]
) -> None:
    first, second = pipeline(home, started)
    app = Shown(first)
    async with app.run_test(size=(24, 10)) as pilot:
        await until(pilot, lambda: "[first starting]" in screen_text(app))
        lines = screen_text(app).splitlines()
        assert "second" in lines[1]
        await pilot.click(PipelineRow, offset=(lines[1].index("second") + 2, 1))
        await pilot.pause()
        assert app.opened == [second]


async def test_the_monitor_goes_from_one_run_of_a_pipeline_to_the_next(
    home: Path, started: list[RunDir]
) -> None:
    first, second = pipeline(home, started)
    at_step(first, 4, 10)
    app = WorkbenchApp(home, open_run=first.id)
    with alive(first):
        async with app.run_test(size=(120, 40)) as pilot:
            await until(pilot, lambda: "[first running 40 %] → second starting" in screen_text(app))
            app.screen.query_one(PipelineRow).focus()
            await pilot.press("right", "enter")
            await until(pilot, lambda: "first running 40 % → [second starting]" in screen_text(app))
            assert isinstance(app.screen, MonitorScreen)
            assert app.screen.run == second


async def test_a_run_that_was_alone_takes_no_room(home: Path) -> None:
    app = Shown(folder(home))
    async with app.run_test() as pilot:
        await settled(pilot)
        assert not app.query_one(PipelineRow).region


async def settled(pilot: Pilot[None]) -> None:
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()
