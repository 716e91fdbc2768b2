"""What a step's time goes to, beside what the engine does now."""

import math
from pathlib import Path

import pytest

from tests.tui.fake_run import HOSTILE, alive, fake_run
from tests.tui.monitor.conftest import viewing
from workbench.widgets.head import RECENT


async def test_a_wide_line_tells_what_a_steps_time_goes_to(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(30)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("a step: update 65% · generate 22% · measure 11% · judge 2%")
            assert "12/32 responses" in viewer.text
            await viewer.pilot.resize_terminal(80, 24)
            await viewer.until(lambda: "a step:" not in viewer.text)
            assert "12/32 responses" in viewer.text


async def test_the_last_steps_count(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(30)
    for _ in range(RECENT):
        fake.step += 1
        fake.store.step(fake.step, {"kl": 1.0}, fake.knobs, {"generate": 3.0, "update": 1.0})
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("a step: generate 75% · update 25%")


@pytest.mark.parametrize("stage", ["sft", "reward"])
async def test_one_phase_alone_is_not_told(home: Path, stage: str) -> None:
    fake = fake_run(home, stage)
    fake.steps(30)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 30/500", "12/32 responses")
            assert "a step:" not in viewer.text


async def test_strange_names_and_times_drive_nothing(home: Path) -> None:
    fake = fake_run(home)
    times = {"generate": math.nan, HOSTILE: 1.0, "measure": math.inf, "update": 1.0, "judge": 0.0}
    fake.store.step(1, {"kl": 1.0}, fake.knobs, times)
    with alive(fake.run):
        async with viewing(home, fake.run, (160, 40)) as viewer:
            await viewer.sees("a step: [/b] [red]␛]2;owned", "50% · update 50%")
            await viewer.press("t")
            await viewer.sees("1 steps, as of step 1")
            await viewer.press("l", "l", "l")
            assert "\x1b" not in viewer.text
