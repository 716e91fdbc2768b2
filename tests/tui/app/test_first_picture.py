"""What stands on the screen first, and what is not drawn again."""

import gc
import logging
import threading
from pathlib import Path

import pytest

from tests.tui.screen_text import screen_text
from tests.tui.viewer import settle
from workbench.app import WorkbenchApp
from workbench.runs_list import RunRow, RunsList
from workbench.screens.home import FIRST_SECONDS
from workbench.widgets.key_line import KeyLine


async def test_leaving_while_the_runs_are_still_read_says_nothing(
    several: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left = threading.Event()

    def slowly(self: RunsList, seconds: float) -> list[RunRow]:
        left.wait(60)
        return []

    monkeypatch.setattr(RunsList, "read", slowly)
    app = WorkbenchApp(several)
    with caplog.at_level(logging.ERROR):
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause(2 * FIRST_SECONDS)
            assert "RLHF Workbench" not in screen_text(app), "no run is known yet"
            assert "Leave" in screen_text(app)
            left.set()
        del app, pilot
        gc.collect()
    assert "never retrieved" not in caplog.text


async def test_keys_are_made_anew_only_where_they_say_something_else(
    several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    compose = KeyLine.compose
    monkeypatch.setattr(KeyLine, "compose", lambda line: made.append(line) or compose(line))
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert "r Resume" in screen_text(app)
        before = len(made)
        app.screen.refresh_bindings()
        await settle(pilot)
        assert len(made) == before
        await pilot.press("slash")
        await settle(pilot)
        assert "r Resume" not in screen_text(app), "in the filter an r is a letter"
        assert len(made) > before
