"""Gaps stay gaps, a frozen display stays as it is, and a phase tells its time left."""

import math
from pathlib import Path

from tests.tui.fake_run import alive, fake_run
from tests.tui.monitor.conftest import viewing
from workbench.feed import RunFeed
from workbench.widgets.chart import Chart


async def test_steps_without_a_finite_kl_are_a_gap_and_not_a_fall_to_the_floor(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(20)
    fake.steps(10, kl=math.nan)
    fake.steps(20)
    async with viewing(home, fake.run) as viewer:
        await viewer.sees("step 50/500")
        drawn = viewer.monitor.query_one("#chart-0", Chart).plt.signals
        assert any(math.isnan(y) for line in drawn for y in line.ys)


async def test_a_frozen_display_stays_whatever_is_pressed(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(20)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 20/500")
            await viewer.press("f")
            fake.steps(100)
            await viewer.until(lambda: len(viewer.monitor.snapshot.steps) == 120)
            await viewer.press("m", "w")
            assert "step 20/500" in viewer.text
            await viewer.press("f")
            await viewer.sees("step 120/500")


def test_a_phase_tells_its_time_left_and_a_new_one_starts_afresh(tmp_path: Path) -> None:
    fake = fake_run(tmp_path)
    feed = RunFeed(fake.run)
    assert feed.look().phase_seconds_left is None
    fake.busy(done=24)
    left = feed.look().phase_seconds_left
    assert left is not None
    assert left >= 0
    fake.busy("update", done=4)
    assert feed.look().phase_seconds_left is None
