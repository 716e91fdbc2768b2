"""The monitor at every time of a run's life, in every size, with every text."""

import os
import random
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.tui.fake_run import HOSTILE, FakeRun, alive, fake_run, folder
from tests.tui.monitor.conftest import viewing
from workbench.screens.monitor import MonitorScreen
from workbench.widgets.chart import Chart

SIZES = [(120, 40), (80, 24)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_ppo_looks_right(
    home: Path, size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    fake = fake_run(home, total=400)
    fake.steps(200)
    fake.turn("kl_coef", 0.08)
    fake.steps(120)
    fake.store.checkpoint(300, "step-000300", 1000)
    fake.store.event(300, "info", "checkpoint", "checkpoint after step 300")
    fake.samples("Summarise: my roommate never pays", "He should talk to the roommate first.")
    with alive(fake.run):
        async with viewing(home, fake.run, size) as viewer:
            await viewer.sees("step 320/400", "12/32 responses", "? Help")
            assert await viewer.picture(snapshot) == snapshot


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("stage", ["sft", "collect", "reward", "dpo", "evaluate"])
async def test_other_stages_look_right(
    home: Path, stage: str, size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    fake = fake_run(home, stage, total=200)
    fake.steps(200)
    fake.store.end_session("done")
    async with viewing(home, fake.run, size) as viewer:
        await viewer.sees("✓ done", "step 200/200", "? Help")
        assert await viewer.picture(snapshot) == snapshot


ALL_SIZES = [*SIZES, (60, 16)]


@pytest.mark.parametrize("size", ALL_SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_run_that_waits_looks_right(
    home: Path, size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    fake = fake_run(home)
    fake.store.progress("waiting", "waits", text="waits for 20260101-000000-sft (running)")
    with alive(fake.run):
        async with viewing(home, fake.run, size) as viewer:
            await viewer.sees(
                "○ waiting", "waits for 20260101-000000-sft", "no data yet", "k Knobs"
            )
            assert await viewer.picture(snapshot) == snapshot


@pytest.mark.parametrize("size", ALL_SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_failed_run_looks_right(
    home: Path, size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    fake = fake_run(home, total=400)
    fake.steps(130)
    fake.store.checkpoint(100, "step-000100", 1000)
    fake.store.checkpoint(120, "step-000120", 1000)
    why = "CUDA out of memory in update\nppo.micro_batch_size 8 → 4 saves 2.1 GiB\nor use nf4"
    fake.store.end_session("failed", why)
    async with viewing(home, fake.run, size) as viewer:
        await viewer.sees("failed at step 130/400: CUDA out of memory", "r resumes it", "k Knobs")
        assert await viewer.picture(snapshot) == snapshot


async def test_a_run_without_a_store_says_that_it_is_starting(home: Path) -> None:
    run = folder(home)
    with alive(run):
        async with viewing(home, run) as viewer:
            await viewer.sees("○ starting", "no data yet")


async def test_a_spec_that_cannot_be_read_is_said_and_left_again(home: Path) -> None:
    run = folder(home)
    run.spec_file.write_text('stage = "ppo"\nhorse = 1\n')
    async with viewing(home, run) as viewer:
        await viewer.sees("horse")
        await viewer.press("]", "enter", "p", "k", "q")
        assert len(viewer.app.screen_stack) == 1


async def test_a_run_deleted_under_the_screen_is_said(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(5)
    async with viewing(home, fake.run) as viewer:
        await viewer.sees("step 5/500")
        fake.run.spec_file.unlink()
        await viewer.sees("the run was deleted")


async def test_a_run_comes_to_life_while_it_is_looked_at(home: Path) -> None:
    fake = fake_run(home)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("● running", "no data yet")
            fake.steps(5)
            fake.samples("prompt", "first response")
            await viewer.sees("step 5/500", "first response")
            fake.steps(5)
            await viewer.sees("step 10/500")


async def test_an_engine_that_vanished_is_lost_and_its_log_one_key_away(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(5)
    fake.run.log.write_text("".join(f"line {i}\n" for i in range(50_000)) + HOSTILE)
    old = fake.run.spec_file.stat().st_mtime - 100
    os.utime(fake.run.log, (old, old))
    async with viewing(home, fake.run) as viewer:
        await viewer.sees("✗ lost", "L shows its log")
        await viewer.press("L")
        await viewer.sees("line 49999", "␛]2;owned␇")
        assert "\x1b" not in viewer.text
        await viewer.press(*["k"] * 40)
        await viewer.until(lambda: "␛]2;owned␇" not in viewer.text)
        await viewer.press("j", "G")
        await viewer.sees("␛]2;owned␇")
        for key in ("escape", "q", "enter"):
            await viewer.press(key)
            assert isinstance(viewer.app.screen, MonitorScreen)
            await viewer.press("L")


def hostile_run(home: Path) -> FakeRun:
    """A run whose figures are no numbers and whose texts mean harm."""
    fake = fake_run(home)
    fake.steps(5)
    for bad in (float("nan"), float("inf"), -float("inf"), -3.0, 0.0, 1e300, -1e300):
        fake.steps(3, kl=bad, score=bad, gold=bad, entropy=bad, seconds=bad)
    fake.samples(HOSTILE, HOSTILE * 20)
    fake.store.event(5, "error", "odd", HOSTILE)
    fake.store.progress("running", HOSTILE, 3, 0)
    return fake


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_hostile_run_looks_right(
    home: Path, size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    fake = hostile_run(home)
    with alive(fake.run):
        async with viewing(home, fake.run, size) as viewer:
            await viewer.sees("step 26/500", "q Back")
            assert await viewer.picture(snapshot) == snapshot


@pytest.mark.parametrize("size", ALL_SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_hostile_text_and_figures_are_shown_and_drive_nothing(
    home: Path, size: tuple[int, int]
) -> None:
    fake = hostile_run(home)
    with alive(fake.run):
        async with viewing(home, fake.run, size) as viewer:
            await viewer.sees("step 26/500")
            for key in ("y", "y", "m", "m", "x", "w", "s", "enter"):
                await viewer.press(key)
            await viewer.sees("samples of demo", "[/b] [red]␛]2;owned")
            assert not set(viewer.text) & {"\x1b", "\x07", "\x9b", "\u202e"}


async def test_display_keys_change_what_the_charts_show(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(700)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("· log · EMA .97", "step 700/500")
            chart = viewer.monitor.query_one("#chart-0", Chart)
            assert chart.picture.log
            await viewer.press("y")
            assert not chart.picture.log
            await viewer.press("w")
            await viewer.sees("last 500")
            assert (chart.picture.low, chart.picture.high) == (201, 700)
            await viewer.press("w", "m")
            await viewer.sees("last 100")
            assert "EMA" not in viewer.text
            await viewer.press("x")
            assert chart.picture.time


async def test_a_frozen_display_stands_still_and_then_shows_all_that_came(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(5)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 5/500")
            await viewer.press("f")
            fake.steps(5)
            await viewer.until(lambda: viewer.monitor.snapshot.state.step == 10)
            await viewer.sees("DISPLAY FROZEN", "step 5/500")
            await viewer.press("f")
            await viewer.sees("step 10/500")


async def test_small_terminals_unfold_panes_and_fold_them_again(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(5)
    fake.samples("prompt", "a response")
    with alive(fake.run):
        async with viewing(home, fake.run, (80, 24)) as viewer:
            await viewer.sees("β 0.05", "/ target 6")
            assert "a response" not in viewer.text
            await viewer.press("s")
            await viewer.sees("a response")
            await viewer.press("escape", "k")
            await viewer.sees("▸ β kl_coef", "max_grad_norm")
            await viewer.press("escape")
            await viewer.sees("score")
            assert viewer.app.screen is viewer.monitor


async def test_any_size_can_be_drawn(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(50)
    fake.samples("prompt", "response")
    sizes = random.Random(3)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 50/500")
            for _ in range(15):
                size = (sizes.randint(1, 180), sizes.randint(1, 60))
                await viewer.pilot.resize_terminal(*size)
                await viewer.press(sizes.choice("ysmwxk"))
            await viewer.pilot.resize_terminal(40, 10)
            await viewer.sees("needs 60x16, have 40x10")
            await viewer.pilot.resize_terminal(100, 32)
            await viewer.sees("step 50/500")
