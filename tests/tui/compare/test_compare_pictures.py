"""The compare screen as text, in the two sizes that it is drawn for."""

import shutil
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from rlhf_engine.runs.directory import RunDir
from tests.tui.compare.conftest import comparing, made
from tests.tui.fake_run import HOSTILE, FakeRun

SIZES = [(120, 40), (80, 24)]
sizes = pytest.mark.parametrize("size", SIZES)


@sizes
async def test_two_living_runs(
    home: Path, two: tuple[FakeRun, FakeRun], size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    async with comparing(home, *(one.run for one in two), size=size) as viewer:
        assert await viewer.picture(snapshot) == snapshot
        await viewer.press("o")
        assert await viewer.picture(snapshot, name="grid") == snapshot(name="grid")


@sizes
async def test_one_deleted(
    home: Path, two: tuple[FakeRun, FakeRun], size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    async with comparing(home, *(one.run for one in two), size=size) as viewer:
        await viewer.settled()
        shutil.rmtree(two[1].run.path)
        await viewer.sees("deleted")
        assert await viewer.picture(snapshot) == snapshot


@sizes
async def test_one_failed(
    home: Path, two: tuple[FakeRun, FakeRun], size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    failed = made(home, "100002", "no-memory", seed=5)
    failed.steps(30)
    failed.store.end_session("failed", "CUDA out of memory in update\nlower ppo.micro_batch_size")
    runs = [*(one.run for one in two), failed.run]
    async with comparing(home, *runs, size=size) as viewer:
        await viewer.sees("failed")
        assert await viewer.picture(snapshot) == snapshot


@sizes
async def test_hostile(home: Path, size: tuple[int, int], snapshot: SnapshotAssertion) -> None:
    run, other = made(home, "100000", "x"), made(home, "100001", "y", seed=2)
    for one in (run, other):
        one.steps(20)
        one.steps(3, score=float("nan"), kl=float("inf"))
        one.steps(10)
        one.steps(1, gold=float("-inf"))
    run.store.end_session("failed", HOSTILE)
    name = f"20260301-100000-{HOSTILE.replace('/', '|')}"
    evil = RunDir(run.run.path.rename(run.run.path.with_name(name)))
    async with comparing(home, evil, other.run, size=size) as viewer:
        assert await viewer.picture(snapshot) == snapshot


@sizes
async def test_different_stages(
    home: Path, size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    runs = []
    for i, stage in enumerate(("sft", "reward", "ppo", "dpo")):
        runs.append(made(home, f"10000{i}", f"demo-{stage}", stage))
        runs[-1].steps(60)
        runs[-1].store.end_session("done")
    async with comparing(home, *(one.run for one in runs), size=size) as viewer:
        assert await viewer.picture(snapshot) == snapshot


@sizes
async def test_nothing_compared(
    home: Path, size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    async with comparing(home, size=size) as viewer:
        await viewer.sees("no other run here")
        await viewer.press("escape")
        assert await viewer.picture(snapshot) == snapshot
