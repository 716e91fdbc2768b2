"""A home of runs to compare, and a person in front of the compare screen."""

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from rlhf_engine.job.knobs import knob_values
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.writer import StoreWriter
from tests.tui.fake_run import FakeRun, alive, folder
from tests.tui.viewer import Viewer
from workbench.app import WorkbenchApp
from workbench.screens.compare import CompareScreen


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("workbench.feed.POLL_SECONDS", 0.02)
    monkeypatch.setattr("workbench.screens.compare.redraw_seconds", lambda: 0.0)
    return tmp_path


def made(home: Path, stamp: str, name: str, stage: str = "ppo", seed: int = 7) -> FakeRun:
    """A fake run with an id that never changes, ready for its first step."""
    path = folder(home, stage, name).path
    run = RunDir(path.rename(path.with_name(f"20260301-{stamp}-{name}")))
    store = StoreWriter(run.store)
    store.set_fact("total_steps", "500")
    fake = FakeRun(run, stage, store, knobs=knob_values(run.spec()), noise=random.Random(seed))
    store.start_session(None)
    fake.busy()
    return fake


@pytest.fixture
def two(home: Path) -> Iterator[tuple[FakeRun, FakeRun]]:
    """Two living PPO runs; the second one's KL coefficient was turned after 40 steps."""
    soft, strict = made(home, "100000", "soft"), made(home, "100001", "strict", seed=3)
    soft.steps(120)
    strict.steps(40)
    strict.turn("kl_coef", 0.2)
    strict.steps(40, kl=2.5)
    with ExitStack() as stack:
        stack.enter_context(alive(soft.run))
        stack.enter_context(alive(strict.run))
        yield soft, strict


class CompareViewer(Viewer):
    """A person in front of the compare screen."""

    @property
    def compare(self) -> CompareScreen:
        return next(s for s in self.app.screen_stack if isinstance(s, CompareScreen))

    async def settled(self) -> str:
        """The screen's text once every run was read and it has stopped changing."""
        await self.until(lambda: all(lane.was_read for lane in self.compare._all))
        return await super().settled()


@asynccontextmanager
async def comparing(
    home: Path, *runs: RunDir, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[CompareViewer]:
    """The compare screen over these runs; without any, what the key 5 opens."""
    app = WorkbenchApp(home)
    for run in runs:
        app.board.add(run)
    async with app.run_test(size=size, notifications=True) as pilot:
        viewer = CompareViewer(app, pilot)
        await viewer.press("5")
        yield viewer
