"""The crosshair reads every figure of a step, and the charts' numbers are a table of text."""

import math
import time
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.tui.fake_run import HOSTILE, FakeRun, alive, fake_run
from tests.tui.monitor.conftest import MonitorViewer, viewing
from workbench.widgets.chart import Chart
from workbench.widgets.charts import Charts
from workbench.widgets.numbers import Numbers, NumbersPage


def cursor(viewer: MonitorViewer) -> int | None:
    return viewer.monitor.cursor_step


async def opened(viewer: MonitorViewer, fake: FakeRun) -> None:
    await viewer.sees(f"step {fake.step}/500")


async def test_the_crosshair_moves_by_columns_by_steps_and_to_the_ends(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(300)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await opened(viewer, fake)
            stride = 300 // (viewer.monitor.query_one(Charts).size.width - 9)
            assert stride > 1
            moves = [
                ("left", 300),
                ("left", 300 - stride),
                ("h", 300 - 2 * stride),
                ("right", 300 - stride),
                ("l", 300),
                ("right", 300),
                ("shift+left", 299),
                ("comma", 298),
                ("shift+right", 299),
                ("full_stop", 300),
                ("home", 1),
                ("left", 1),
                ("end", 300),
            ]
            for key, step in moves:
                await viewer.press(key)
                assert cursor(viewer) == step, key
            await viewer.press("escape")
            assert cursor(viewer) is None
            assert viewer.app.screen is viewer.monitor


async def test_it_reads_every_figure_and_knob_and_what_happened_there(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(29)
    fake.turn("kl_coef", 0.4)
    fake.steps(1, kl=1.2345, score=math.nan, gold=math.inf)
    fake.store.checkpoint(30, "step-000030", 1000)
    fake.store.event(30, "warn", "guard", "kl is far from its target " + HOSTILE)
    fake.steps(10)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await opened(viewer, fake)
            await viewer.press("home", *["shift+right"] * 29)
            await viewer.sees(
                "step 30 · ", "explained_v", "value_clip", "t shows the rest", "NaN", "inf"
            )
            await viewer.sees(
                "1.23", "kl_coef 0.05 → 0.4 (command)", "▲ checkpoint", "guard: kl is"
            )
            assert not set(viewer.text) & {"\x1b", "\x07"}
            legend = viewer.monitor.query_one("#chart-0", Chart).border_subtitle
            assert "KL 1.23" in str(legend)


async def test_what_a_person_had_measured_is_a_dot_of_the_chart(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(60)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await opened(viewer, fake)
            assert "held out" not in viewer.text
            fake.store.measured(60, {"eval_score": 0.4321}, "asked")
            await viewer.sees("held out 0.43")
            await viewer.press("end")
            await viewer.sees("measured: eval_score 0.43")
            (dots,) = (
                line
                for line in viewer.monitor.query_one("#chart-1", Chart).picture.lines
                if line.dots
            )
            assert (list(dots.xs), list(dots.ys)) == ([60], [0.4321])


async def test_it_stays_on_its_step_while_steps_arrive_and_in_the_window(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(200)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await opened(viewer, fake)
            await viewer.press("end", "x", "y", "m")
            fake.steps(5)
            await viewer.sees("step 205/500")
            assert cursor(viewer) == 200
            await viewer.press("home", "f")
            fake.steps(5)
            await viewer.until(lambda: viewer.monitor.snapshot.state.step == 210)
            await viewer.press("end")
            assert cursor(viewer) == 205, "a frozen display has no later step"
            await viewer.press("f", "home", "w", "w")
            assert cursor(viewer) == 111, "the first of the last hundred"


async def test_it_goes_with_the_steps_that_a_rollback_took_back(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(50)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await opened(viewer, fake)
            await viewer.press("end")
            fake.store.start_session(20, "rollback")
            await viewer.sees("step 20/500")
            await viewer.until(lambda: cursor(viewer) == 20)


async def test_a_click_on_a_chart_puts_it_there(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(100)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await opened(viewer, fake)
            await viewer.settled()
            chart = viewer.monitor.query_one("#chart-1", Chart)
            await viewer.pilot.click(chart, offset=(chart.size.width, 4))
            await viewer.until(lambda: cursor(viewer) is not None)
            right = cursor(viewer)
            await viewer.pilot.click(chart, offset=(chart.size.width // 2, 4))
            await viewer.until(lambda: cursor(viewer) != right)
            middle = cursor(viewer)
            assert right is not None
            assert middle is not None
            assert right > 95
            assert 35 < middle < 60


async def test_no_step_gives_no_crosshair_and_no_table(home: Path) -> None:
    fake = fake_run(home)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("no data yet")
            await viewer.press("left", "right", "home", "end", "comma")
            assert cursor(viewer) is None
            await viewer.press("t")
            await viewer.sees("no numbers yet")


@pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_it_looks_right(
    home: Path, size: tuple[int, int], snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.widgets.reading.clock", lambda _: "12:00:00")
    fake = fake_run(home, total=400)
    fake.steps(100)
    fake.turn("kl_coef", 0.08)
    fake.steps(50)
    fake.store.event(150, "warn", "guard", "kl > 2 * target for 3 steps")
    fake.store.checkpoint(120, "step-000120", 1000)
    fake.steps(3, kl=-0.4)
    fake.steps(47)
    fake.store.start_session(200, "resume")
    fake.busy()
    fake.steps(100)
    with alive(fake.run):
        async with viewing(home, fake.run, size) as viewer:
            await viewer.sees("step 300/400", "12/32 responses")
            await viewer.press("end", *["left"] * 20)
            await viewer.sees("b back · F fork")
            assert await viewer.picture(snapshot) == snapshot


async def test_the_table_has_every_step_and_opens_at_the_crosshair(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(149)
    fake.steps(1, kl=math.nan, score=-math.inf)
    fake.steps(150)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await opened(viewer, fake)
            await viewer.press("end", *["shift+left"] * 150)
            await viewer.press("enter")
            assert isinstance(viewer.app.screen, NumbersPage)
            await viewer.sees("300 steps, as of step 300", "▸150")
            line = next(line for line in viewer.text.splitlines() if "▸150" in line)
            assert "NaN" in line
            assert "-inf" in line
            table = viewer.app.screen.query_one(Numbers)
            await viewer.press(*["l"] * 25)
            await viewer.sees("seconds_generate", "seconds_update")
            await viewer.press(*["h"] * 25)
            await viewer.press("g")
            await viewer.until(lambda: table.scroll_offset.y == 0)
            assert "  1 " in viewer.text
            await viewer.press("j", "j", "k")
            await viewer.until(lambda: table.scroll_offset.y == 1)
            await viewer.press("l")
            await viewer.until(lambda: table.scroll_offset.x == 10)
            assert "step" in viewer.text
            await viewer.press("h", "G")
            await viewer.until(lambda: table.scroll_offset == (0, table.max_scroll_y))
            await viewer.press("pageup", "escape")
            assert viewer.app.screen is viewer.monitor


async def test_twenty_thousand_steps_open_and_page_at_once(home: Path) -> None:
    fake = fake_run(home, total=20_000)
    fake.steps(20_000)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 20000/20000")
            start = time.process_time()
            await viewer.press("t", "pageup", "pageup", "g", "pagedown", "G", "escape")
            await viewer.press("home", "right", "right")
            spent = time.process_time() - start
            assert spent < 6.0, f"{spent:.1f} s of CPU time for ten keys"
            assert cursor(viewer) == 1 + 2 * (20_000 // (viewer.monitor.charts.size.width - 9))


async def test_v_shows_one_chart_after_the_other_and_all_again(home: Path) -> None:
    fake = fake_run(home, "reward")
    fake.steps(60)
    with alive(fake.run):
        async with viewing(home, fake.run, (80, 24)) as viewer:
            await opened(viewer, fake)
            await viewer.sees("loss · log", "accuracy on pairs")
            assert "margin ·" not in viewer.text, "the third chart has no room here"
            await viewer.press("v")
            await viewer.until(lambda: "accuracy on pairs" not in viewer.text)
            await viewer.press("v", "v")
            await viewer.sees("─  margin · EMA")
            await viewer.press("v")
            await viewer.sees("loss · log", "accuracy on pairs")
