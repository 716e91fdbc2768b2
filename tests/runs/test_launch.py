"""What a spec turns into when it is launched: whole ids, absolute paths, nothing half made."""

from pathlib import Path

import pytest

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import load_preset
from rlhf_engine.job.spec import PpoSpec
from rlhf_engine.runs import launch
from rlhf_engine.runs.directory import RunDir, RunNotFound, all_runs


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(launch, "start_engine", lambda run: None)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "home"
    path.mkdir()
    return path


def started(home: Path, *overrides: str, name: str | None = None) -> RunDir:
    return launch.launch(home, load_preset("smoke", list(overrides)), name)[0]


def test_local_paths_become_absolute_and_names_stay(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "data.jsonl").write_text("")
    for trap in ("rule", "builtin"):
        (tmp_path / trap).mkdir()
    gold = '["mine.py:a", "mine:b", "rule:vowels"]'
    run = started(home, "data.path=data.jsonl", f"reward.gold={gold}")
    spec = run.spec()
    assert isinstance(spec, PpoSpec)
    assert spec.policy == "builtin:tiny-llama"
    assert spec.data.path == str(tmp_path / "data.jsonl")
    mine = tmp_path / "mine.py"
    assert spec.reward.gold == [f"{mine}:a", f"{mine}:b", "rule:vowels"]
    assert spec.reward.score == "rule:vowels"


def test_a_run_is_named_by_its_id_from_then_on(home: Path) -> None:
    first = started(home, name="base")
    second = started(home, "policy=run:base")
    assert second.spec().policy == f"run:{first.id}"


def test_nothing_is_made_if_anything_is_wrong(home: Path) -> None:
    with pytest.raises(RunNotFound, match="no run 'nowhere'"):
        started(home, "policy=run:nowhere")
    with pytest.raises(SpecError, match="--name: name"):
        started(home, name="My Run")
    pipeline = load_preset("demo", ["evaluate:evaluate.against=['run:nowhere']"])
    with pytest.raises(RunNotFound):
        launch.launch(home, pipeline)
    assert list(all_runs(home)) == []


def test_two_runs_of_one_second_have_ids_of_their_own(home: Path) -> None:
    assert len({started(home).id for _ in range(5)}) == 5
