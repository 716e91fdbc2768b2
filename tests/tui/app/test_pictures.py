"""The list of runs as text, in the two sizes that it is drawn for."""

from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.tui.app.seen import seen, settle
from workbench.app import WorkbenchApp

SIZES = [(120, 40), (80, 24)]


@pytest.mark.parametrize("size", SIZES)
async def test_several(several: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert seen(app) == snapshot


@pytest.mark.parametrize("size", SIZES)
async def test_empty(
    home: Path,
    size: tuple[int, int],
    snapshot: SnapshotAssertion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offers = [("demo", "The whole pipeline. " * 8), ("smoke", "A minute of PPO with a [/rule].")]
    monkeypatch.setattr("workbench.screens.home_empty.offered_presets", lambda: offers)
    app = WorkbenchApp(home)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        assert seen(app) == snapshot


@pytest.mark.parametrize("size", SIZES)
async def test_help(several: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        await pilot.press("question_mark")
        await settle(pilot)
        assert seen(app) == snapshot
