"""A home of runs to compare, and a person in front of the compare screen."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from textual.pilot import Pilot

from rlhf_engine.job.knobs import knob_values
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.writer import StoreWriter
from tests.tui.fake_run import FakeRun, alive, folder
from tests.tui.screen_text import screen_text
from workbench.app import WorkbenchApp
from workbench.screens.compare import CompareScreen

PATIENCE = 60.0


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


@dataclass
class Viewer:
    """A person in front of the compare screen."""

    app: WorkbenchApp
    pilot: Pilot[None]

    @property
    def text(self) -> str:
        return screen_text(self.app)

    @property
    def compare(self) -> CompareScreen:
        return next(s for s in self.app.screen_stack if isinstance(s, CompareScreen))

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
        """The screen's text once every run was read and it has stopped changing."""
        await self.until(lambda: all(lane.was_read for lane in self.compare._all))
        before = ""
        while (now := self.text) != before:
            before = now
            await self.pilot.pause(0.3)
        return now


@asynccontextmanager
async def comparing(
    home: Path, *runs: RunDir, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[Viewer]:
    """The compare screen over these runs; without any, what the key 5 opens."""
    app = WorkbenchApp(home)
    for run in runs:
        app.board.add(run)
    async with app.run_test(size=size, notifications=True) as pilot:
        viewer = Viewer(app, pilot)
        await viewer.press("5")
        yield viewer
