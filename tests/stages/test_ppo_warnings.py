"""What a PPO step warns of, and figures that must stay usable in degenerate batches."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_engine.job.knobs import knob_values
from rlhf_engine.job.spec import SPEC
from rlhf_engine.seeding import permutation
from rlhf_engine.stages.ppo import PpoStage
from rlhf_engine.stages.stage import StepRecord
from tests.stages.inputs import Inputs, build, make_inputs, make_spec


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def judged(inputs: Inputs, home: Path, scores: list[list[float]], **changes: Any) -> PpoStage:
    """A stage whose judge gives these scores, a list a step."""
    spec = make_spec("ppo", inputs, missing_eos="none", **changes)
    rule = spec.model_dump() | {"reward": {"score": "rule:brevity"}}
    stage = build(SPEC.validate_python(rule), home)
    assert isinstance(stage, PpoStage)
    given = iter(scores)
    stage._judges = {"rule:brevity": lambda *_: next(given)}
    return stage


def steps(stage: PpoStage, count: int) -> list[StepRecord]:
    return [stage.step(step, knob_values(stage._spec)) for step in range(1, count + 1)]


@pytest.mark.parametrize("level", [0.0, 0.1, -3.0])
def test_a_flat_first_batch_is_shifted_and_not_scaled(
    inputs: Inputs, tmp_path: Path, level: float
) -> None:
    """Else one unusual score later counts as a million deviations."""
    later = [level, level, level, level, level, level + 1]
    stage = judged(inputs, tmp_path, [[level] * 6, later], normalise_score="mean_std")
    first, second = steps(stage, 2)
    (warning,) = first.warnings
    assert warning.kind == "score"
    assert "cannot be scaled" in warning.text
    assert second.metrics["score"] == pytest.approx(1 / 6, rel=1e-5)
    assert not second.warnings


def test_a_batch_of_one_is_shifted_and_not_scaled(inputs: Inputs, tmp_path: Path) -> None:
    stage = judged(
        inputs, tmp_path, [[2.0], [3.0]], normalise_score="mean_std", batch_size=1, minibatches=1
    )
    first, second = steps(stage, 2)
    assert [warning.kind for warning in first.warnings] == ["score"]
    assert (first.metrics["score"], second.metrics["score"]) == (0.0, 1.0)
    assert all(map(math.isfinite, [*first.metrics.values(), *second.metrics.values()]))


def test_small_scores_that_differ_are_scaled(inputs: Inputs, tmp_path: Path) -> None:
    small = [1e-9 * x for x in (1, 2, 3, 4, 5, 6)]
    (record,) = steps(judged(inputs, tmp_path, [small], normalise_score="mean_std"), 1)
    assert record.metrics["score_std"] == pytest.approx(1.0, rel=1e-4)
    assert not record.warnings


@pytest.mark.parametrize(("shift", "told"), [(0.01, "0.01"), (math.nan, "nan")])
@pytest.mark.parametrize("row", range(6))
def test_log_probs_that_do_not_agree_are_told(
    inputs: Inputs, tmp_path: Path, row: int, shift: float, told: str
) -> None:
    """A single token's, in whatever micro-batch of the first minibatch it lies."""
    spec = make_spec("ppo", inputs)
    stage = build(spec, tmp_path)
    assert isinstance(stage, PpoStage)
    plain = stage._measure

    def measure(*args: Any) -> Any:
        figures = plain(*args)
        logp = figures.logp.clone()
        logp[row, 0] -= shift
        return replace(figures, logp=logp)

    stage._measure = measure
    record = stage.step(1, knob_values(spec))
    first = row in _first_minibatch(stage)
    error = record.metrics["first_ratio_error"]
    assert (math.isnan(error) if math.isnan(shift) else error > 0.009) == first
    assert [warning.kind for warning in record.warnings] == ["ratio"] * first
    assert all(told in warning.text for warning in record.warnings)


def _first_minibatch(stage: PpoStage) -> list[int]:
    rows = permutation(stage._spec.seed, "minibatch-0", 1, 6)
    return rows[: 6 // stage._ppo.minibatches]


def test_log_probs_that_agree_are_not(inputs: Inputs, tmp_path: Path) -> None:
    spec = make_spec("ppo", inputs)
    stage = build(spec, tmp_path)
    assert not stage.step(1, knob_values(spec)).warnings
