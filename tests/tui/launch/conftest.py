"""A home, two presets of the test's own, and engines that are only noted down or played."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rlhf_engine.runs.directory import RunDir

SINGLE = """\
# Vowels, quickly.

name = "tiny"
stage = "ppo"
policy = "builtin:tiny-llama"
device = "cpu"

[data]
path = "builtin:demo-prompts"

[reward]
score = "rule:vowels"

[ppo]
steps = 60
batch_size = 32
"""
PIPELINE = """\
# Two steps, one after the other.

name = "both"
device = "cpu"

[[stages]]
name = "first"
stage = "sft"
policy = "builtin:tiny-llama"
data = { path = "builtin:demo-demonstrations" }

[[stages]]
name = "second"
stage = "ppo"
policy = "stage:first"
data = { path = "builtin:demo-prompts" }
reward = { score = "rule:vowels" }
"""


@pytest.fixture(autouse=True)
def presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "both.toml").write_text(PIPELINE, encoding="utf-8")
    (folder / "tiny.toml").write_text(SINGLE, encoding="utf-8")
    monkeypatch.setattr("rlhf_engine.job.presets.preset_folder", lambda: folder)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def usual_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """No path of a test's folder in a picture."""
    monkeypatch.setattr("workbench.form_model._is_usual", lambda _: True)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[RunDir]:
    """The runs whose engine was started."""
    runs: list[RunDir] = []
    monkeypatch.setattr("rlhf_engine.runs.launch.start_engine", runs.append)
    return runs


GIB = 2**30
# The numbers of a Llama of 135 M parameters with an adapter of rank 16.
SHAPE = {
    "linear": 106_000_000,
    "adapted": 106_000_000,
    "largest": 884_736,
    "other": 28_500_000,
    "policy_lora": 4_880_000,
    "inherited": False,
    "reward_lora": 0,
    "gold_lora": 0,
    "against_lora": 0,
    "layers": 30,
    "hidden": 576,
    "intermediate": 1536,
    "heads": 9,
    "kv_heads": 3,
    "head_dim": 64,
    "vocabulary": 49152,
    "stored_bytes": 2,
    "saved": {"fp32": [0, 800_000, 1000], "bf16": [0, 400_000, 500]},
}
DEVICE = {"kind": "cpu", "process": 300 * 2**20, "widens": False}
# Plays `python -m MODULE SPEC...` by a script that lies beside the specs' answers.
PLAY = r"""
import json, pathlib, sys, time, tomllib
script, module, *files = sys.argv[1:]
played = json.loads(pathlib.Path(script).read_text())[module]
with open(script + ".asked", "a") as asked:
    asked.write(module + chr(10))
print("downloading", played["says"], file=sys.stderr, flush=True)
time.sleep(played["seconds"])
if played["dies"]:
    print(played["dies"], file=sys.stderr)
    sys.exit(3)
for file in files:
    stage = tomllib.load(open(file, "rb"))["name"]
    for answer in played["answers"]:
        print(json.dumps({"stage": stage, **answer}), flush=True)
"""


@dataclass
class Engine:
    """What the engine answers to an estimate and to a check; `asked` is what it was asked."""

    script: Path
    plays: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answers_with(self, module: str, *answers: dict[str, Any], **manners: Any) -> None:
        said = {"seconds": 0, "dies": "", "says": "nothing"} | manners
        self.plays[f"rlhf_engine.{module}"] = said | {"answers": answers}
        self.script.write_text(json.dumps(self.plays), encoding="utf-8")

    @property
    def asked(self) -> list[str]:
        path = Path(f"{self.script}.asked")
        return path.read_text().split() if path.exists() else []


@pytest.fixture(autouse=True)
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Plays the engine's answers; 16 GiB are free, estimates are asked for at once."""
    played = Engine(tmp_path / "engine.json")
    played.answers_with("estimate", {"on": "cpu", "device": DEVICE, "shape": SHAPE})
    played.answers_with("check", {"level": "ok", "what": "device: cpu"})

    def command(module: str, *files: str | Path) -> list[str]:
        return [sys.executable, "-S", "-c", PLAY, str(played.script), module, *map(str, files)]

    monkeypatch.setattr("workbench.commands.common.engine_command", command)
    monkeypatch.setattr("workbench.widgets.form_memory.free_memory", lambda _: 16 * GIB)
    monkeypatch.setattr("workbench.widgets.form_memory.PATIENCE_SECONDS", 0.01)
    return played
