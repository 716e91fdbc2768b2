"""A run that means harm: every screen lives, and nothing of it drives a terminal."""

import unicodedata

import pytest

from tests.tui.fake_run import FakeRun
from tests.tui.frame.conftest import PLACES, PRESETS
from tests.tui.screen_text import screen_text
from workbench.app import WorkbenchApp
from workbench.screens.launch import LaunchScreen

# Marks that turn lines round, hide, or break them.
FORBIDDEN = set("\u200b\u200e\u200f\u2028\u2029\u061c\ufeff\u202a\u202b\u202c\u202d\u202e")


def harm(text: str) -> set[str]:
    """Signs that must never reach a terminal."""
    controls = {sign for sign in text if unicodedata.category(sign) in ("Cc", "Cs")}
    return (controls | FORBIDDEN & set(text)) - {"\n"}


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
@pytest.mark.parametrize("place", PLACES)
async def test_every_screen_survives(hostile: FakeRun, place: str, size: tuple[int, int]) -> None:
    app = WorkbenchApp(hostile.run.home, open_run=hostile.run.id)
    async with app.run_test(size=size) as pilot:

        async def look() -> None:
            for _ in range(4):
                await pilot.pause(0.1)
                shown = screen_text(app)
                assert not harm(shown), shown
                assert shown.count("\n") == size[1] - 1

        await look()
        if place == "5":
            app.board.add(hostile.run)
        await pilot.press(place)
        await look()
        if isinstance(app.screen, LaunchScreen):
            for preset in reversed(PRESETS):
                await app.screen.choose(preset)
                await look()
            assert "[red]/{y}.jsonl" in screen_text(app)
        # Without a focus every key belongs to the screen.
        app.screen.set_focus(None)
        for key in PLACES[place]:
            before = app.screen
            await pilot.press(key)
            await look()
            for down in ("down", "enter"):
                if app.screen is before:
                    await pilot.press(down)
                    await look()
            if app.screen is not before:
                await pilot.press("escape")
                await pilot.pause()
        assert app.is_running
        assert app.return_code in (None, 0)


async def test_the_hostile_words_are_told_all_the_same(hostile: FakeRun) -> None:
    app = WorkbenchApp(hostile.run.home, open_run=hostile.run.id)
    async with app.run_test(size=(120, 40)) as pilot:
        for _ in range(100):
            await pilot.pause(0.05)
            if "[/INST]" in screen_text(app):
                break
        shown = screen_text(app)
        assert "[/b] [red]␛]2;owned␇␛[2J" in shown
        assert "NaN" in shown or "inf" in shown
