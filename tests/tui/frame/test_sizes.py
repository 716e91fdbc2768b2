"""Terminals of any size, changed at random while a run streams."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.tui.fake_run import alive, fake_run
from tests.tui.frame.conftest import PLACES
from tests.tui.screen_text import screen_text
from workbench.app import MIN_COLUMNS, MIN_LINES, TooSmall, WorkbenchApp


@pytest.fixture(autouse=True)
def quick_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is new is told at once."""
    monkeypatch.setattr("workbench.feed.POLL_SECONDS", 0.02)
    monkeypatch.setattr("workbench.screens.run_screen.redraw_seconds", lambda: 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
async def test_a_screen_lives_through_any_sizes(tmp_path: Path, place: str) -> None:
    await resized_while_it_streams(tmp_path, place, random.Random(int(place)), 10, (40, 10))


async def test_the_monitor_lives_through_a_few_sizes(tmp_path: Path) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201
    smallest = MIN_COLUMNS, MIN_LINES
    await resized_while_it_streams(tmp_path, "3", random.Random(seed), 4, smallest)


async def resized_while_it_streams(
    home: Path, place: str, chance: random.Random, times: int, smallest: tuple[int, int]
) -> None:
    """Go to a place, and change the terminal's size there so many times while steps come."""
    fake = fake_run(home)
    fake.steps(30)
    app = WorkbenchApp(home, open_run=fake.run.id)
    with alive(fake.run):
        async with app.run_test(size=(120, 40)) as pilot:
            await settle_screen(pilot.pause)
            await pilot.press(place)
            screen = app.screen
            for _ in range(times):
                fake.steps(2)
                fake.samples("why?", "because " * chance.randrange(1, 60))
                wide, high = chance.randrange(smallest[0], 200), chance.randrange(smallest[1], 60)
                await pilot.resize_terminal(wide, high)
                await settle_screen(pilot.pause)
                small = wide < MIN_COLUMNS or high < MIN_LINES
                assert isinstance(app.screen, TooSmall) == small
                shown = screen_text(app)
                assert (f"needs 60x16, have {wide}x{high}" in shown) == small
                assert shown.count("\n") == high - 1
                assert max(map(len, shown.splitlines())) <= wide
            await pilot.resize_terminal(120, 40)
            await settle_screen(pilot.pause)
            assert app.screen is screen
            await pilot.press("q")
    fake.store.close()


async def settle_screen(pause: object) -> None:
    """Let the feed's thread tell what is new, and the screen draw it."""
    for _ in range(3):
        await asyncio.sleep(0.02)
        await pause()  # type: ignore[operator]


@pytest.mark.parametrize("place", PLACES)
async def test_the_smallest_size_still_draws(tmp_path: Path, place: str) -> None:
    fake = fake_run(tmp_path)
    fake.steps(30)
    app = WorkbenchApp(tmp_path, open_run=fake.run.id)
    with alive(fake.run):
        async with app.run_test(size=(MIN_COLUMNS, MIN_LINES)) as pilot:
            await settle_screen(pilot.pause)
            await pilot.press(place)
            await settle_screen(pilot.pause)
            assert not isinstance(app.screen, TooSmall)
            assert screen_text(app).strip()
    fake.store.close()
