"""Tiny real runs in real engine processes, in a home of their own."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from rlhf_engine.job.presets import load_preset
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import launch
from rlhf_engine.runs.lock import is_held, owner
from rlhf_engine.runs.reader import StepRow, StoreReader
from rlhf_engine.runs.state import RunState, run_state
from tests.engine.warm import Nursery

PATIENCE = 800.0


class Lab:
    """A home for runs that are started, watched, killed and compared."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def start(self, preset: str | Path, *overrides: str, name: str | None = None) -> RunDir:
        return self.start_all(preset, *overrides, name=name)[0]

    def start_all(
        self, preset: str | Path, *overrides: str, name: str | None = None
    ) -> list[RunDir]:
        return launch(self.home, load_preset(str(preset), list(overrides)), name)

    def until(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < end, f"waited too long for {what}"
            time.sleep(0.02)

    def ended(self, run: RunDir) -> RunState:
        self.until(lambda: run_state(run).ended, f"the end of {run.id}")
        state = run_state(run)
        if state.word == "failed":
            print(run.log.read_text())
        return state

    def at_step(self, run: RunDir, step: int) -> None:
        self.until(lambda: self.step_of(run) >= step or run_state(run).ended, f"step {step}")

    def step_of(self, run: RunDir) -> int:
        reader = StoreReader.open(run.store)
        if reader is None:
            return 0
        with reader:
            last = reader.last_step()
        return last.step if last else 0

    def kill(self, run: RunDir) -> None:
        """kill -9 the engine and wait until the kernel has freed its lock."""
        self.signal(run, signal.SIGKILL)
        self.until(lambda: run_state(run).word in ("lost", "done"), "the lock to be free")

    def signal(self, run: RunDir, number: int) -> None:
        os.kill(json.loads(owner(run.lock))["pid"], number)

    def steps(self, run: RunDir) -> list[StepRow]:
        reader = StoreReader.open(run.store)
        assert reader is not None
        with reader:
            return reader.steps()

    def figures(self, run: RunDir) -> dict[int, dict[str, float]]:
        """Metrics and knobs of each step but for clocks: what must repeat bit for bit."""
        return {row.step: row.repeatable() for row in self.steps(run)}

    def weights(self, run: RunDir) -> bytes:
        """The trained adapter that a run has left."""
        return (run.output / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def lab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Lab]:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if not request.node.get_closest_marker("cold"):
        forked = request.getfixturevalue("nursery").popen
        starting = SimpleNamespace(Popen=forked, DEVNULL=subprocess.DEVNULL)
        monkeypatch.setattr("rlhf_engine.runs.launch.subprocess", starting)
    home = tmp_path / "home"
    home.mkdir()
    yield Lab(home)
    # An engine's command line is its title, which names the run and not the home.
    for run in home.glob("runs/*"):
        if is_held(run / "engine.lock"):
            with suppress(psutil.NoSuchProcess):
                psutil.Process(json.loads(owner(run / "engine.lock"))["pid"]).kill()
