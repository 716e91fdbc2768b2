"""The list of runs as text, in the two sizes that it is drawn for."""

from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.cli.fakes import FakeEngine, make_run
from tests.tui.app.conftest import at, ended
from tests.tui.compare.conftest import made
from tests.tui.fake_run import HOSTILE, alive
from tests.tui.viewer import Viewer, settle
from workbench.app import WorkbenchApp

SIZES = [(120, 40), (80, 24)]


@pytest.mark.parametrize("size", SIZES)
async def test_several(several: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert await Viewer(app, pilot).picture(snapshot) == snapshot


@pytest.mark.parametrize("size", SIZES)
async def test_live(home: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    run = at(make_run(home, name="busy"), "20260301-110000")
    ended(home, "20260301-100000", "before")
    with FakeEngine(run, steps=5, status="paused", answers=None):
        app = WorkbenchApp(home)
        async with app.run_test(size=size) as pilot:
            await settle(pilot)
            await pilot.press("space", "space")
            assert await Viewer(app, pilot).picture(snapshot) == snapshot


@pytest.mark.parametrize("size", SIZES)
async def test_running(home: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    busy = made(home, "110000", "busy")
    busy.steps(120)
    ended(home, "20260301-100000", "before")
    with alive(busy.run):
        app = WorkbenchApp(home)
        async with app.run_test(size=size) as pilot:
            viewer = Viewer(app, pilot)
            await viewer.sees("running", "120/500")
            assert await viewer.picture(snapshot) == snapshot


@pytest.mark.parametrize("size", SIZES)
async def test_hostile(home: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    run = ended(home, "20260301-110000", "x", "failed", HOSTILE)
    run.path.rename(run.path.with_name(f"20260301-110000-{HOSTILE.replace('/', '|')}"))
    broken = ended(home, "20260301-100000", "broken")
    broken.store.write_bytes(b"SQLite format 3\x00" + b"\xff" * 4096)
    app = WorkbenchApp(home)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert await Viewer(app, pilot).picture(snapshot) == snapshot


@pytest.mark.parametrize("size", SIZES)
async def test_empty(
    home: Path,
    size: tuple[int, int],
    snapshot: SnapshotAssertion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offers = [("demo", "The whole pipeline. " * 8), ("smoke", "A minute of PPO with a [/rule].")]
    monkeypatch.setattr("workbench.screens.home_empty.offered_presets", lambda home: offers)
    app = WorkbenchApp(home)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert await Viewer(app, pilot).picture(snapshot) == snapshot


@pytest.mark.parametrize("size", SIZES)
async def test_help(several: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("question_mark")
        await settle(pilot)
        assert await Viewer(app, pilot).picture(snapshot) == snapshot
