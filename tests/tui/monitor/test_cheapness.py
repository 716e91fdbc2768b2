"""What keeps the screens cheap: only new rows are read, nothing is drawn twice or unseen."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlhf_engine.runs.reader import StepRow, StoreReader
from tests.tui.fake_run import alive, fake_run
from tests.tui.monitor.conftest import viewing
from workbench.commands.text import clip
from workbench.feed import RunFeed, Snapshot
from workbench.screens.confirm import ConfirmScreen
from workbench.screens.monitor import MonitorScreen
from workbench.screens.seen import is_seen
from workbench.widgets.chart import Chart

HEAVY = ("torch", "transformers", "datasets", "peft", "pydantic", "plotext", "pynvml")


def test_the_first_screen_imports_nothing_that_it_does_not_show() -> None:
    code = "import sys, workbench.cli, workbench.commands.screens, workbench.app; "
    code += f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_second_look_reads_new_steps_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    steps = StoreReader.steps

    def counted(reader: StoreReader, after: int = 0) -> list[StepRow]:
        rows = steps(reader, after)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(StoreReader, "steps", counted)
    fake = fake_run(tmp_path)
    fake.steps(300)
    feed = RunFeed(fake.run)
    feed.look()
    feed.look()
    fake.steps(5)
    feed.look()
    assert read == [300, 5]


async def test_a_monitor_draws_twice_a_second_whatever_the_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = MonitorScreen.draw

    def counted(screen: MonitorScreen, snapshot: Snapshot) -> None:
        drawn.append(snapshot.state.step)
        draw(screen, snapshot)

    monkeypatch.setattr("workbench.feed.POLL_SECONDS", 0.01)
    monkeypatch.setattr("workbench.screens.run_screen.redraw_seconds", lambda: 0.5)
    fake = fake_run(tmp_path)
    fake.steps(5)
    with alive(fake.run):
        async with viewing(tmp_path, fake.run) as viewer:
            await viewer.sees("step 5/500")
            await viewer.settled()
            monkeypatch.setattr(MonitorScreen, "draw", counted)
            start = time.monotonic()
            while (spent := time.monotonic() - start) < 1.6:
                fake.steps(2)
                await asyncio.sleep(0.01)
            assert 1 <= len(drawn) <= 2 * spent + 1


async def test_a_few_steps_more_of_a_long_run_leave_the_charts_and_change_the_figures(
    home: Path,
) -> None:
    fake = fake_run(home, total=5000)
    fake.steps(3000)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 3000/5000")
            await viewer.settled()
            chart = viewer.monitor.query_one("#chart-0", Chart)
            before = chart.picture
            fake.steps(1, kl=77.7)
            await viewer.sees("step 3001/5000", "77.7")
            assert chart.picture is before
            fake.steps(200)
            await viewer.sees("step 3201/5000")
            await viewer.until(lambda: chart.picture.high == 3201)


async def test_screens_under_others_rest_but_for_those_behind_a_question(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(5)
    async with viewing(home, fake.run) as viewer:
        await viewer.sees("step 5/500")
        runs = viewer.app.screen_stack[0]
        assert is_seen(viewer.monitor)
        assert not is_seen(runs)
        viewer.app.push_screen(ConfirmScreen("Stop?", "It can be resumed.", "Stop"))
        await viewer.sees("Stop?")
        assert is_seen(viewer.monitor)
        assert not is_seen(runs)


def test_an_endless_line_is_clipped_without_looking_at_all_of_it() -> None:
    endless = "漢" * 100_000
    assert clip(endless, 21) == "漢" * 10 + "…"
    assert clip("short", 5) == "short"
    assert clip("shorter", 5) == "shor…"
    assert clip(" " * 10_000 + "word", 10) == "word"
