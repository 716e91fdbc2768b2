"""What the form says of memory and data, and what Launch makes of it."""

from pathlib import Path

import pytest

from rlhf_engine.runs.directory import RunDir, all_runs
from tests.tui.fake_run import HOSTILE
from tests.tui.launch.conftest import DEVICE, SHAPE, Engine
from tests.tui.launch.shown import App, estimated, focus, launch_screen, says, type_over, until
from tests.tui.screen_text import screen_text
from workbench.screens.confirm import ConfirmScreen
from workbench.widgets.form_data import DataPane
from workbench.widgets.form_memory import MemoryPane
from workbench.widgets.text_page import TextPage


async def test_the_estimate_shows_parts_against_what_is_free(home: Path, engine: Engine) -> None:
    async with launch_screen(home) as (pilot, screen):
        await estimated(pilot, screen)
        memory = says(screen, "memory")
        assert "free 16.00 GiB on cpu now  fits" in memory
        assert {"base", "adapters", "process"} <= {
            line.split(" ")[0] for line in memory.split("\n")
        }
        assert "ready: 1 run" in says(screen, "summary")


async def test_a_size_is_estimated_at_once_and_a_model_by_the_engine(
    home: Path, engine: Engine
) -> None:
    async with launch_screen(home) as (pilot, screen):
        await estimated(pilot, screen)
        before = says(screen, "memory")
        await type_over(pilot, screen, "ppo.micro_batch_size", "1")
        assert says(screen, "memory") != before
        assert engine.asked == ["rlhf_engine.estimate"]
        await type_over(pilot, screen, "lora.r", "8")
        await until(pilot, lambda: engine.asked == ["rlhf_engine.estimate"] * 2)
        await estimated(pilot, screen)


async def test_what_does_not_fit_is_asked_about_with_three_remedies(
    home: Path, engine: Engine, started: list[RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.widgets.form_memory.free_memory", lambda _: 2**20)
    async with launch_screen(home) as (pilot, screen):
        await until(pilot, lambda: "does not fit" in says(screen, "memory"))
        assert says(screen, "memory").count("saves") == 3
        assert "Launch asks" in says(screen, "summary")
        await pilot.press("ctrl+g")
        await pilot.pause()
        assert isinstance(pilot.app.screen, ConfirmScreen)
        assert "launch anyway" in screen_text(pilot.app)
        await pilot.press("n")
        await pilot.pause()
        assert started == []
        await pilot.press("ctrl+g", "y")
        await pilot.pause()
        assert len(started) == 1


async def test_a_model_that_is_not_there_refuses_and_v_tries_again(
    home: Path, engine: Engine, started: list[RunDir]
) -> None:
    engine.answers_with("estimate", {"error": "model x/y: gone; check the id"})
    async with launch_screen(home) as (pilot, screen):
        await until(pilot, lambda: "model x/y: gone; check the id" in says(screen, "memory"))
        assert "not yet: 1 problem" in says(screen, "summary")
        await pilot.press("ctrl+g")
        await pilot.pause()
        assert pilot.app.screen is screen
        assert started == []
        engine.answers_with("estimate", {"on": "cpu", "device": DEVICE, "shape": SHAPE})
        await pilot.press("ctrl+r")
        await estimated(pilot, screen)
        await pilot.press("ctrl+g")
        await pilot.pause()
        assert len(started) == 1


async def test_an_estimate_that_breaks_says_so_and_stops_nobody(
    home: Path, engine: Engine, started: list[RunDir]
) -> None:
    engine.answers_with("estimate", dies="no such module")
    async with launch_screen(home) as (pilot, screen):
        await until(pilot, lambda: "no such module" in says(screen, "memory"))
        await pilot.press("ctrl+g")
        await pilot.pause()
        assert len(started) == 1


async def test_what_the_engine_downloads_is_told(home: Path, engine: Engine) -> None:
    engine.answers_with("estimate", says="SmolLM2", seconds=60)
    async with launch_screen(home) as (pilot, screen):
        await until(pilot, lambda: "downloading SmolLM2" in says(screen, "memory"))


DATA = {
    "level": "warn",
    "what": "data rows.jsonl (train): 9 of 10 rows kept; 12.5% of the rows are cut",
    "facts": ["9 of 10 rows kept", "12.5% of the rows are cut"],
    "example": "<|user|>\nhello",
}


async def test_v_checks_data_and_a_change_makes_it_old(home: Path, engine: Engine) -> None:
    engine.answers_with("check", DATA)
    async with launch_screen(home) as (pilot, screen):
        assert "v looks at" in says(screen, "data")
        # In a text `v` is a letter; on a choice it is the key.
        await focus(pilot, screen, "ppo.advantage")
        await pilot.press("v")
        await until(pilot, lambda: "0 errors, 1 warning" in says(screen, "data"))
        found = says(screen, "data")
        assert "12.5% of the rows are cut" in found
        assert "│ <|user|>" in found
        await type_over(pilot, screen, "seed", "9")
        assert "the form has changed" in says(screen, "data")


async def test_broken_data_refuses_to_launch(
    home: Path, engine: Engine, started: list[RunDir]
) -> None:
    engine.answers_with("check", {"level": "error", "what": "rows.jsonl: line 3: no JSON"})
    async with launch_screen(home) as (pilot, screen):
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "line 3: no JSON" in says(screen, "summary"))
        await pilot.press("ctrl+g")
        await pilot.pause()
        assert started == []
        await type_over(pilot, screen, "data.path", "builtin:demo-prompts")
        assert "line 3" not in says(screen, "summary")


async def test_a_change_ends_the_check_that_runs(home: Path, engine: Engine) -> None:
    engine.answers_with("check", DATA, seconds=60)
    async with launch_screen(home) as (pilot, screen):
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "rlhf_engine.check" in engine.asked)
        pane = screen.query_one(DataPane)
        assert pane.is_busy
        await type_over(pilot, screen, "seed", "9")
        assert not pane.is_busy


async def test_hostile_data_is_shown_as_plain_text(home: Path, engine: Engine) -> None:
    hostile = DATA | {"what": HOSTILE, "facts": [HOSTILE], "example": HOSTILE + "x" * 100_000}
    engine.answers_with("check", hostile)
    engine.answers_with("estimate", {"error": HOSTILE})
    async with launch_screen(home) as (pilot, screen):
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "1 warning" in says(screen, "data"))
        await until(pilot, lambda: "[red]" in says(screen, "memory"))
        assert "\x1b" not in screen_text(pilot.app)
        await pilot.press("ctrl+l")
        await pilot.pause()
        assert isinstance(pilot.app.screen, TextPage)
        assert "\x1b" not in screen_text(pilot.app)


async def test_details_show_every_phase_and_the_whole_example(home: Path, engine: Engine) -> None:
    engine.answers_with("check", DATA)
    async with launch_screen(home, size=(80, 24)) as (pilot, screen):
        await estimated(pilot, screen)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "1 warning" in says(screen, "brief"))
        report = screen.query_one(MemoryPane).report()
        for phase in ("load model", "generate", "measure", "update", "total"):
            assert phase in report
        await pilot.press("ctrl+l")
        await pilot.pause()
        assert "MEMORY" in screen_text(pilot.app)
        await pilot.press("escape")
        await pilot.pause()
        assert pilot.app.screen is screen


async def test_the_smallest_terminal_still_says_whether_it_fits(home: Path) -> None:
    async with launch_screen(home, size=(60, 16)) as (pilot, screen):
        await estimated(pilot, screen)
        assert "of 16.00 GiB free fits" in screen_text(pilot.app)


async def test_one_stage_of_a_pipeline_that_does_not_fit_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, started: list[RunDir]
) -> None:
    async with launch_screen(home, "both") as (pilot, screen):
        await estimated(pilot, screen)
        first, second = screen.query_one(MemoryPane).stages
        assert first.found
        assert second.found
        between = (first.found.peak.bytes + second.found.peak.bytes) // 2
        larger = max(
            (first, second), key=lambda stage: stage.found.peak.bytes if stage.found else 0
        )
        monkeypatch.setattr("workbench.widgets.form_memory.free_memory", lambda _: between)
        screen.query_one(MemoryPane)._read_free()
        await until(pilot, lambda: f"{larger.spec.name} too big" in screen_text(pilot.app))
        assert screen_text(pilot.app).count("too big") == 1
        await pilot.press("ctrl+g")
        await pilot.pause()
        assert list(all_runs(home)) == []
        assert isinstance(pilot.app, App)
