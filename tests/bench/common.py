"""What the benchmarks share: runs of our engine and of the peer, each in a process of its own."""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_engine.job.estimate import Estimate, estimate
from rlhf_engine.job.footprint import Device, Shape
from rlhf_engine.job.presets import load_preset
from rlhf_engine.runs.directory import RunDir, create_run
from rlhf_engine.runs.reader import StepRow, StoreReader

TOPICS = """
cats, the sea, an old train, winter, a good soup, maths, my neighbour, the moon, football,
a long walk, music, trees, the news, a small town, bread, a storm
"""
MIB = 2**20


class Failed(Exception):
    """A process that was measured did not reach its end: why, and all that it printed."""

    def __init__(self, output: str, reason: str = "") -> None:
        lines = output.strip().splitlines() or ["it said nothing"]
        told = next((line for line in lines if "out of memory" in line.lower()), lines[-1])
        super().__init__(reason or told)
        self.output = output


@dataclass(frozen=True)
class Ours:
    """What a run of our engine left: its steps, and the peak bytes of what came before them."""

    run: RunDir
    steps: list[StepRow]
    setup: dict[str, int]

    def seconds(self) -> float:
        """Of a step after the first, in the middle."""
        return statistics.median(row.metrics["seconds"] for row in self.steps[1:])

    def phases(self) -> dict[str, float]:
        """Seconds of each phase of such a step."""
        return {
            name: statistics.median(row.phases[name] for row in self.steps[1:])
            for name in self.steps[0].phases
        }

    def memory(self) -> dict[str, int]:
        """Peak bytes of each phase over all steps, and of those before the first."""
        phases = {name for row in self.steps for name in row.memory}
        found = {name: max(int(row.memory.get(name, 0)) for row in self.steps) for name in phases}
        return self.setup | found


def run_ours(
    home: Path, preset: Path, overrides: Sequence[str], seconds: float | None = None
) -> Ours:
    """One run in a fresh engine process; Failed with the run's own reason if it does not end."""
    run = create_run(home, load_preset(str(preset), list(overrides)).stages[0])
    with run.log.open("w") as log:
        command = [sys.executable, "-m", "rlhf_engine", str(run.path)]
        code = _end_of(command, seconds, stdout=log, stderr=log).returncode
    reader = StoreReader.open(run.store)
    if reader is None:
        raise Failed(run.log.read_text())
    with reader:
        steps, facts, sessions = reader.steps(), reader.facts(), reader.sessions()
    if code:
        raise Failed(run.log.read_text(), (sessions and sessions[-1].error) or "")
    return Ours(run, steps, json.loads(facts["setup_memory"]))


def estimated(run: RunDir) -> tuple[Estimate, Device]:
    """What `workbench estimate` says of the run's spec, and of its device."""
    command = [sys.executable, "-m", "rlhf_engine.estimate", str(run.spec_file)]
    done = _end_of(command, None, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        raise Failed(done.stdout or done.stderr)
    answer = json.loads(done.stdout)
    device = Device(**answer["device"])
    return estimate(run.spec(), Shape(**answer["shape"]), device), device


def run_peer(python: Path, arguments: Sequence[object], seconds: float | None = None) -> Any:
    """What one run of TRL in its own environment prints."""
    script = Path(__file__).with_name("trl_ppo.py")
    command = [str(python), str(script), *map(str, arguments)]
    done = _end_of(command, seconds, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        raise Failed(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _end_of(
    command: list[str], seconds: float | None, **outputs: Any
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, text=True, check=False, timeout=seconds, **outputs)
    except subprocess.TimeoutExpired:
        raise Failed(f"stopped after {seconds:.0f} s") from None
    except OSError as error:
        raise Failed(str(error)) from None


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The middle of each figure."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
