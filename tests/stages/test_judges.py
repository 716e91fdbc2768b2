"""Several judges of one run: each scores as it was trained, and only one is trained on."""

from pathlib import Path
from typing import Any

import torch

from rlhf_engine.runs.sample import Sample
from tests.stages.inputs import build, make_inputs, make_spec, run, weights, write_adapter


def first_samples(tmp_path: Path, spec: Any) -> list[Sample]:
    return run(spec, tmp_path, steps=1).samples[0]


def test_a_learned_reward_that_is_watched_scores_with_its_own_adapter(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    other = write_adapter(inputs.base, tmp_path / "other", head=True, seed=9)
    score, gold = str(inputs.reward), str(other)
    both = first_samples(
        tmp_path, make_spec("ppo", inputs, reward={"score": score, "gold": [gold, score]})
    )
    alone = first_samples(tmp_path, make_spec("ppo", inputs, reward={"score": gold}))
    ours = [sample.detail[gold] for sample in both]
    torch.testing.assert_close(ours, [sample.detail[gold] for sample in alone])
    assert [sample.gold for sample in both] == ours
    assert all(abs(a - sample.detail[score]) > 1e-3 for a, sample in zip(ours, both, strict=True))


def test_the_value_role_never_starts_from_a_reward_that_is_only_watched(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    reward = {"score": "rule:brevity", "gold": [str(inputs.reward)]}
    found = weights(build(make_spec("ppo", inputs, reward=reward), tmp_path))
    assert not found["value.score.weight"].any()
    start = {n.removeprefix("policy."): t for n, t in found.items() if n.startswith("policy.")}
    assert all(torch.equal(found[f"value.{name}"], tensor) for name, tensor in start.items())


def test_roles_may_adapt_different_layers(tmp_path: Path) -> None:
    """The policy's few layers and the judge's many: each role leaves the others' layers alone."""
    inputs = make_inputs(tmp_path)
    targets = ["q_proj", "v_proj"]
    policy = write_adapter(inputs.base, tmp_path / "few", head=False, seed=1, targets=targets)
    done = run(make_spec("ppo", inputs, policy=policy), tmp_path)
    for figures in done.metrics:
        assert figures["first_ratio_error"] <= 1e-5
        assert figures["logp_mismatch"] <= 1e-5
    assert done.metrics[0]["kl"] == 0
    assert {name for name in done.weights if "policy" in name and "gate_proj" in name} == set()
