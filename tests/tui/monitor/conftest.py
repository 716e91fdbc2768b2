"""An application on one fake run, and waiting for what it shows."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from textual.pilot import Pilot

from rlhf_engine.runs.directory import RunDir
from tests.tui.screen_text import screen_text
from workbench.app import WorkbenchApp
from workbench.screens.monitor import MonitorScreen

PATIENCE = 20.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("workbench.feed.POLL_SECONDS", 0.02)
    monkeypatch.setattr("workbench.screens.run_screen.redraw_seconds", lambda: 0.0)
    monkeypatch.setattr("workbench.widgets.sample_table.REFILL_SECONDS", 0.0)
    return tmp_path


@dataclass
class Viewer:
    """A person in front of the monitor."""

    app: WorkbenchApp
    pilot: Pilot[None]

    @property
    def monitor(self) -> MonitorScreen:
        return next(s for s in self.app.screen_stack if isinstance(s, MonitorScreen))

    @property
    def text(self) -> str:
        return screen_text(self.app)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for something to become true; the screen's text says what was there instead."""
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, f"it never came:\n{self.text}"
            await self.pilot.pause()
            await asyncio.sleep(0.01)

    async def sees(self, *words: str) -> None:
        await self.until(lambda: all(word in self.text for word in words))

    async def settled(self) -> str:
        """The screen's text once it has stopped changing."""
        before = ""
        while (now := self.text) != before:
            before = now
            await self.pilot.pause(0.2)
        return now


@asynccontextmanager
async def viewing(
    home: Path, run: RunDir, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[Viewer]:
    app = WorkbenchApp(home, open_run=run.id)
    async with app.run_test(size=size) as pilot:
        yield Viewer(app, pilot)
