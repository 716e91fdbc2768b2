"""An application on one fake run, and waiting for what it shows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rlhf_engine.runs.directory import RunDir
from tests.tui.viewer import Viewer
from workbench.app import WorkbenchApp
from workbench.screens.monitor import MonitorScreen


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("workbench.feed.POLL_SECONDS", 0.02)
    monkeypatch.setattr("workbench.screens.run_screen.redraw_seconds", lambda: 0.0)
    monkeypatch.setattr("workbench.widgets.sample_table.REFILL_SECONDS", 0.0)
    return tmp_path


class MonitorViewer(Viewer):
    """A person in front of the monitor."""

    @property
    def monitor(self) -> MonitorScreen:
        return next(s for s in self.app.screen_stack if isinstance(s, MonitorScreen))


@asynccontextmanager
async def viewing(
    home: Path, run: RunDir, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[MonitorViewer]:
    app = WorkbenchApp(home, open_run=run.id)
    async with app.run_test(size=size) as pilot:
        yield MonitorViewer(app, pilot)
