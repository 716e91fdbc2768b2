"""A home with runs in several states, a clock that stands still, and screens to open."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Footer, Static

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.writer import Outcome, StoreWriter
from tests.cli.fakes import finished_run, make_run, write_steps
from workbench.app import WorkbenchApp
from workbench.doctor import Finding
from workbench.keys import Key, bindings

NOW = time.mktime(time.strptime("20260301-120000", "%Y%m%d-%H%M%S"))


def at(run: RunDir, stamp: str) -> RunDir:
    """The run as if it had been created then."""
    return RunDir(run.path.rename(run.path.with_name(f"{stamp}-{run.id[16:]}")))


def ended(home: Path, stamp: str, name: str, outcome: Outcome = "done", error: str = "") -> RunDir:
    return at(finished_run(home, outcome, error, name=name), stamp)


def lost(home: Path, stamp: str, name: str) -> RunDir:
    """A run whose engine was killed after three steps."""

    run = at(make_run(home, name=name), stamp)
    store = StoreWriter(run.store)
    store.set_fact("total_steps", "24")
    store.start_session(None)
    write_steps(store, run, 1, 3)
    store.close()
    return run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def several(home: Path) -> Path:
    """A home with a pipeline, a failed, a stopped and a lost run."""
    ended(home, "20260228-115000", "old-run")
    sft = 'stage = "sft"\npolicy = "builtin:tiny-llama"\ndata.path = "rows.jsonl"'
    at(finished_run(home, text=sft, name="demo-sft"), "20260301-110000")
    ended(home, "20260301-110000", "demo-ppo", "cancelled", "parent demo-reward failed")
    ended(home, "20260301-113000", "no-memory", "failed", "out of memory: lower micro_batch_size")
    ended(home, "20260301-115000", "held", "stopped")
    lost(home, "20260301-115930", "killed")
    return home


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ages are taken at one moment; this machine's doctor and GPUs stay out of the pictures."""
    monkeypatch.setattr("workbench.screens.home.time", SimpleNamespace(time=lambda: NOW))
    monkeypatch.setattr("workbench.screens.home.gpu_line", lambda: "")
    findings = [
        Finding("ok", "Python"),
        Finding("warn", "no NVIDIA GPU can be used: runs use the CPU", "install the [/driver]"),
    ]
    monkeypatch.setattr("workbench.doctor.examine", lambda home: findings)


class Stage(Screen[None]):
    """Stands for another screen; says what it was opened with."""

    BINDINGS = [*bindings([Key("stage.back", "escape", "dismiss", "Back", "Back")])]

    def __init__(self, *opened: Any, **named: Any) -> None:
        super().__init__()
        self.opened = opened

    def compose(self) -> ComposeResult:
        yield Static(f"{type(self).__name__}")
        yield Footer()


class MonitorScreen(Stage):
    """Stands for the monitor."""


class LaunchScreen(Stage):
    """Stands for the launch form."""


@pytest.fixture(autouse=True)
def stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other screens have their own tests; here it counts how they are opened."""
    for name, screen, keys in (
        ("monitor", MonitorScreen, "MONITOR_KEYS"),
        ("launch", LaunchScreen, "LAUNCH_KEYS"),
    ):
        module: Any = ModuleType(f"workbench.screens.{name}")
        setattr(module, screen.__name__, screen)
        setattr(module, keys, (Key(f"{name}.stop", "X", "stop", "Stop", "Stop"),))
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the runs whose engines would have been started."""
    found: list[str] = []
    monkeypatch.setattr("rlhf_engine.runs.launch.start_engine", lambda run: found.append(run.id))
    return found


Told = Callable[[WorkbenchApp], list[str]]


@pytest.fixture
def told() -> Told:
    """What the app's notifications say."""
    return lambda app: [notification.message for notification in app._notifications]
