"""A home, two presets of the test's own, and engines that are only noted down."""

from pathlib import Path

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
def started(monkeypatch: pytest.MonkeyPatch) -> list[RunDir]:
    """The runs whose engine was started."""
    runs: list[RunDir] = []
    monkeypatch.setattr("rlhf_engine.runs.launch.start_engine", runs.append)
    return runs
