"""The verb `compare`: the fields that differ, and how each run went."""

from pathlib import Path

import pytest

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.writer import StoreWriter

from .fakes import PPO, Records, Workbench, finished_run

SFT = 'name = "sft"\nstage = "sft"\npolicy = "builtin:tiny-llama"\ndata.path = "rows.jsonl"'


@pytest.fixture
def pair(home: Path) -> tuple[RunDir, RunDir]:
    """Two PPO runs with another seed and coefficient; the second one's knob was turned."""
    first = finished_run(home, name="first")
    second = finished_run(home, name="second", seed=3, ppo={"kl": {"coef": 0.1}})
    store = StoreWriter(second.store)
    with store.transaction():
        metrics = {"score": -1.0, "kl": 9.0, "seconds": 2.0}
        store.step(4, metrics, {"kl_coef": 0.2}, {})
    store.close()
    return first, second


def test_json_has_a_line_for_each_run_and_each_field_that_differs(
    pair: tuple[RunDir, RunDir], records: Records
) -> None:
    first, second = pair
    told = records("compare", "first", "second")
    runs = [record for record in told if record["record"] == "run"]
    assert [run["id"] for run in runs] == [first.id, second.id]
    assert runs[0]["figures"]["score"] == {"last": 0.75, "best": 0.75, "best_step": 3}
    assert runs[1]["figures"]["score"] == {"last": -1.0, "best": 0.75, "best_step": 3}
    assert runs[1]["figures"]["kl"] == {"last": 9.0, "best": None, "best_step": None}
    assert (runs[0]["seconds_per_step"], runs[1]["seconds_per_step"]) == (None, 2.0)
    fields = {record["field"]: record for record in told if record["record"] == "field"}
    assert fields.keys() == {"seed", "ppo.kl.coef"}
    assert fields["seed"]["values"] == {first.id: 0, second.id: 3}
    assert fields["ppo.kl.coef"]["values"] == {first.id: 0.05, second.id: 0.1}
    assert fields["ppo.kl.coef"]["now"] == {second.id: 0.2}


def test_tables_fit_the_terminal(pair: tuple[RunDir, RunDir], workbench: Workbench) -> None:
    shown = workbench("compare", "first", "second").stdout
    assert f"A  {pair[0].id}" in shown
    assert "0.75 @3" in shown
    assert "0.1 → 0.2" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_fields_of_one_stage_alone_are_no_difference(home: Path, records: Records) -> None:
    finished_run(home, name="ppo")
    finished_run(home, text=SFT)
    told = records("compare", "ppo", "sft")
    fields = {record["field"] for record in told if record["record"] == "field"}
    assert fields == {"stage", "data.path"}


def test_runs_that_are_alike_say_so(home: Path, workbench: Workbench) -> None:
    finished_run(home, text=PPO, name="one")
    finished_run(home, text=PPO, name="two")
    assert "no field of their specs differs" in workbench("compare", "one", "two").stdout


def test_one_run_is_not_enough(home: Path, workbench: Workbench) -> None:
    finished_run(home, name="one")
    result = workbench("compare", "one", "one")
    assert result.exit_code == 2
    assert "at least two runs" in result.stderr


def test_a_run_that_does_not_exist_is_named(home: Path, workbench: Workbench) -> None:
    finished_run(home, name="one")
    result = workbench("compare", "one", "none-such")
    assert result.exit_code == 3
    assert "none-such" in result.stderr
