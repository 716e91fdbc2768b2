"""`make bench-tui`: what the screens cost, measured from outside in a terminal of 120x40.

python -m tests.bench.tui [--folder DIR] [--only NAME ...]

The real `workbench` runs against runs that the fake engine writes. Prints one JSON object and a
table beside the goals. Needs a quiet machine with two cores; `--folder` keeps the runs for the
next time.
"""

import argparse
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.terminal import Terminal

STEPS, SAMPLES = 20_000, 50_000
OTHER_RUNS = 12
WORKBENCH = str(Path(sys.executable).with_name("workbench"))
HEAVY = re.compile(r"torch|tokenizers|arrow|bitsandbytes|cuda|numpy", re.IGNORECASE)
KIB, MIB = 2**10, 2**20
STARTS, ATTACHES, KEYS = 7, 5, 80
IDLE_SECONDS, QUIET_SECONDS = 10.0, 10.0
SPEED, PER_STEP = 50, 8
# What each key writes into the title of the first chart, one press after the other.
CYCLES = {
    "w": ("", "last 500", "last 100"),
    "m": ("EMA .97", "", "EMA .9"),
    "y": ("log", ""),
}


@dataclass(frozen=True)
class Goal:
    """One line of the table: what was measured, in which unit, and what it must stay below."""

    what: str
    unit: str
    limit: float | None = None
    scale: float = 1.0


GOALS = {
    "first_screen_cpu": Goal("processor time to the first screen", "s", 0.7),
    "attach_seconds": Goal(f"open a run of {STEPS:,} steps and {SAMPLES:,} samples", "s", 1.0),
    "attach_command_seconds": Goal("the same from the shell: `workbench attach`", "s"),
    "attach_memory": Goal("memory of the viewer then", "MiB", None, 1 / MIB),
    "idle_home": Goal("idle on the list of runs, share of a core", "%", 3, 100),
    "idle_monitor": Goal("idle on a finished run, share of a core", "%", 3, 100),
    "key_p95": Goal("key to paint at 50 steps/s of 8 samples, 95th percentile", "ms", 50, 1e3),
    "key_median": Goal("the same, median", "ms", None, 1e3),
    "bytes_per_second": Goal("painted meanwhile", "KiB/s", 40, 1 / KIB),
    "live_cpu": Goal("processor time meanwhile, share of a core", "%", None, 100),
    "live_memory": Goal("memory of the viewer after that", "MiB", None, 1 / MIB),
    "heavy_libraries": Goal("libraries of torch and its like loaded", "", 0.5),
}


def fake(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.fake_engine", *map(str, arguments)]


def prepare(folder: Path) -> Path:
    """A home with some brief finished runs and a long one on top of the list, made once."""
    home = folder / "finished"
    if not home.exists():
        part = folder / "part"
        for index in range(OTHER_RUNS):
            subprocess.run(
                fake(part, "--name", f"brief-{index}", "--steps", 100, "--begin", 100),
                check=True,
                stdout=subprocess.DEVNULL,
            )
        subprocess.run(
            [
                *fake(part, "--name", "long", "--steps", STEPS, "--begin", STEPS),
                "--samples",
                str(SAMPLES / STEPS),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        part.rename(home)
    return home


def screens(home: Path, *verb: str) -> Terminal:
    return Terminal([WORKBENCH, *verb, "--home", str(home)])


def listed(text: str) -> bool:
    return "brief-0" in text and "long" in text


def monitored(text: str) -> bool:
    """Whether the last step is in the title and at the end of a chart's axis."""
    return f"{STEPS}/{STEPS}" in text and f"{STEPS:,}" in text


def start(folder: Path) -> dict[str, float]:
    """From nothing to the list of runs; the first start, which fills caches, is not counted."""
    home = prepare(folder)
    found = []
    for _ in range(STARTS + 1):
        with screens(home) as terminal:
            terminal.until(listed)
            found.append(terminal.cpu())
    return {"first_screen_cpu": statistics.median(found[1:])}


def attach(folder: Path) -> dict[str, float]:
    """From enter on the list, and from the shell, to the charts of a long run."""
    home = prepare(folder)
    opened, from_shell, memory = [], [], []
    for _ in range(ATTACHES):
        with screens(home) as terminal:
            terminal.until(listed)
            terminal.rest(1.5)
            sent = terminal.press("\r")
            opened.append(terminal.until(monitored) - sent)
            terminal.rest(1.0)
            memory.append(terminal.memory())
        with screens(home, "attach", "long") as terminal:
            from_shell.append(terminal.until(monitored) - terminal.started)
    return {
        "attach_seconds": statistics.median(opened),
        "attach_command_seconds": statistics.median(from_shell),
        "attach_memory": statistics.median(memory),
    }


def idle(folder: Path) -> dict[str, float]:
    """What looking at a list and at a finished run costs when nothing happens."""
    home = prepare(folder)
    found = {}
    for name, verb, painted in (
        ("idle_home", (), listed),
        ("idle_monitor", ("attach", "long"), monitored),
    ):
        with screens(home, *verb) as terminal:
            terminal.until(painted)
            terminal.rest(2.0)
            before, since = terminal.cpu(), time.monotonic()
            terminal.rest(IDLE_SECONDS)
            found[name] = (terminal.cpu() - before) / (time.monotonic() - since)
    return found


def live(folder: Path) -> dict[str, float]:
    """Keys, bytes and memory on the monitor of a long run that goes on fast."""
    home = folder / "live"
    shutil.rmtree(home, ignore_errors=True)
    source = next((prepare(folder) / "runs").glob("*-long"))
    run = home / "runs" / source.name
    shutil.copytree(source, run)
    engine = subprocess.Popen(
        fake(run, "--steps", 2 * STEPS, "--speed", SPEED, "--samples", PER_STEP),
        stdout=subprocess.DEVNULL,
    )
    try:
        with screens(home, "attach", run.name) as terminal:
            terminal.until(lambda text: re.search(rf"step 2[0-9]{{4}}/{2 * STEPS}", text))
            terminal.rest(3.0)
            quiet = _quiet(terminal)
            times = [_key(terminal, *press) for press in _presses(KEYS)]
            return {
                "key_p95": statistics.quantiles(times, n=20)[-1],
                "key_median": statistics.median(times),
                **quiet,
                "live_memory": terminal.memory(),
                "heavy_libraries": sum(map(bool, map(HEAVY.search, terminal.libraries()))),
            }
    finally:
        engine.terminate()
        engine.wait()


def _quiet(terminal: Terminal) -> dict[str, float]:
    """A stretch in which nobody presses anything."""
    cpu, painted, since = terminal.cpu(), terminal.bytes, time.monotonic()
    terminal.rest(QUIET_SECONDS)
    spent = time.monotonic() - since
    return {
        "bytes_per_second": (terminal.bytes - painted) / spent,
        "live_cpu": (terminal.cpu() - cpu) / spent,
    }


def _presses(count: int) -> list[tuple[str, set[str]]]:
    """Keys in a random order, and the words that the chart's title then has."""
    draw = random.Random(5)
    at = dict.fromkeys(CYCLES, 0)
    presses = []
    for _ in range(count):
        key = draw.choice(list(CYCLES))
        at[key] += 1
        words = {cycle[at[name] % len(cycle)] for name, cycle in CYCLES.items()}
        presses.append((key, words - {""}))
    return presses


def _key(terminal: Terminal, key: str, words: set[str]) -> float:
    known = {word for cycle in CYCLES.values() for word in cycle}

    def shown(text: str) -> bool:
        titles = re.findall(r"KL to ref(?:erence)?([^─╮]*)", text)
        return bool(titles) and known & set(titles[-1].strip().split(" · ")) == words

    terminal.rest(random.Random(str((key, terminal.bytes))).uniform(0.1, 0.5))
    sent = terminal.press(key)
    return terminal.until(shown) - sent


MEASURES: dict[str, Callable[[Path], dict[str, float]]] = {
    "start": start,
    "attach": attach,
    "idle": idle,
    "live": live,
}


def table(found: dict[str, float]) -> str:
    """The figures beside their goals, in Markdown."""
    lines = ["| measured | value | goal |", "|---|---|---|"]
    for name, value in found.items():
        goal = GOALS[name]
        shown = f"{value * goal.scale:.3g} {goal.unit}".strip()
        limit = f"< {goal.limit:g} {goal.unit}".strip() if goal.limit is not None else ""
        if goal.limit == 0.5:
            limit = "0"
        lines.append(f"| {goal.what} | {shown} | {limit} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="What the screens cost, measured from outside.")
    parser.add_argument("--folder", type=Path, help="keep the runs here for the next time")
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        found: dict[str, float] = {}
        for measure in given.only:
            found |= MEASURES[measure](folder)
    print(json.dumps(found))
    print(table(found))
    goals = ((GOALS[name], value) for name, value in found.items())
    return int(any(g.limit is not None and value * g.scale > g.limit for g, value in goals))


if __name__ == "__main__":
    sys.exit(main())
