"""PPO end to end against a re-computation of every token by plain transformers and PEFT."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer

from rlhf_engine.job.knobs import knob_values
from rlhf_engine.job.spec import Ppo
from rlhf_engine.rl.advantages import gae
from rlhf_engine.runs.sample import Sample
from rlhf_engine.seeding import noise
from rlhf_engine.stages import ppo, ppo_batch
from rlhf_engine.stages.ppo_batch import Targets, aim
from rlhf_engine.stages.stage import Stage
from tests.stages.by_hand import (
    Batch,
    Learner,
    Rows,
    aim_by_hand,
    flat,
    kls,
    mean,
    rewards_by_hand,
    variance,
)
from tests.stages.inputs import (
    ENDS,
    Inputs,
    build,
    make_inputs,
    make_spec,
    same_weights,
    weights,
)

# fp32 rounding of figures.
FIGURE = 1e-4
EOS = 2

FAST: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {}),
    ("gpt_neox", {"value": "shared"}),
    ("llama", {"advantage": "rloo", "group_size": 3}),
    ("llama", {"whiten_rewards": True, "kl": {"coef": 0.2, "estimator": "k3"}}),
]
DEEP: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("gpt_neox", {"sampling": {"temperature": 1.4}}),
    ("llama", {"value": "shared", "kl": {"estimator": "k2"}}),
    ("gpt2", {"value": "shared", "missing_eos": "replace", "normalise_score": "mean"}),
    ("gpt2", {"advantage": "grpo", "group_size": 2}),
    ("gpt_neox", {"advantage": "dr_grpo", "group_size": 6, "normalise_score": "none"}),
]
CASES = [
    *((*case, False) for case in FAST),
    ("llama", {}, True),
    *(pytest.param(*case, False, marks=pytest.mark.slow) for case in DEEP),
]


@dataclass
class Aim:
    """What every token earns and what the update aims at, as the engine has it. (B, T)."""

    rewards: Tensor | None = None
    targets: Targets | None = None


@pytest.fixture
def aimed(monkeypatch: pytest.MonkeyPatch) -> Aim:
    """The targets of the latest step."""
    found = Aim()

    def rewarded(rewards: Tensor, *args: Any) -> Any:
        found.rewards = rewards
        return gae(rewards, *args)

    def keep(*args: Any) -> Targets:
        found.targets = aim(*args)
        return found.targets

    monkeypatch.setattr(ppo_batch, "gae", rewarded)
    monkeypatch.setattr(ppo, "aim", keep)
    return found


@pytest.mark.parametrize(("kind", "changes", "bare"), CASES)
def test_two_steps_equal_a_loop_over_tokens(
    tmp_path: Path, aimed: Aim, kind: str, changes: dict[str, Any], bare: bool
) -> None:
    """From an adapter, or from a bare base, which is then the reference."""
    inputs = make_inputs(tmp_path, kind)
    spec = make_spec("ppo", inputs, policy=inputs.base if bare else None, **changes)
    stage = build(spec, tmp_path)
    learner = Learner(inputs, spec.ppo, spec.seed, fresh(stage, tmp_path) if bare else None)
    started = weights(stage)
    same_weights(started, learner.weights())
    knobs = knob_values(spec)
    shift, scale = 0.0, 1.0
    lengths: set[int] = set()
    for step in (1, 2):
        record = stage.step(step, knobs)
        samples = list(record.samples)
        batch = look(learner, inputs, samples, knobs["temperature"])
        lengths |= {len(tokens) for tokens in batch.tokens}
        check_draws(learner, batch, step, spec.ppo.sampling.max_new_tokens)
        if step == 1 and spec.ppo.normalise_score != "none":
            shift = mean(batch.raw)
            scale = statistics.stdev(batch.raw) if spec.ppo.normalise_score == "mean_std" else 1.0
        scores = [
            score_by_hand((raw - shift) / scale, done, spec.ppo.missing_eos)
            for raw, done in zip(batch.raw, batch.finished, strict=True)
        ]
        advantages, returns = aim_by_hand(
            batch.logp, batch.ref_logp, batch.values, scores, knobs["kl_coef"], spec.ppo
        )
        check_samples(samples, batch, scores, advantages, spec.ppo)
        check_aim(aimed, batch, scores, returns, knobs["kl_coef"], spec.ppo)
        lr = knobs["lr"] * step / 2
        update = learner.update(batch, step, advantages, returns, lr)
        expected = {**vars(update), **figures(batch, scores, returns, knobs["kl_coef"]), "lr": lr}
        if spec.ppo.advantage != "gae":
            for name in ("value_loss", "value_clip_fraction", "explained_variance"):
                del expected[name]
                assert name not in record.metrics
        seen = {name: record.metrics[name] for name in expected}
        assert seen == pytest.approx(expected, rel=FIGURE, abs=1e-5)
        assert record.metrics["first_ratio_error"] <= 1e-5
        assert record.metrics["logp_mismatch"] < 1e-5
        same_weights(weights(stage), learner.weights())
    # What the checks above are worth: responses are ragged and every bound was met.
    assert len(lengths) >= 3
    assert expected["clip_fraction"] > 0
    assert expected["grad_norm"] > spec.ppo.optimizer.max_grad_norm
    assert abs(expected["kl"]) > 0.01
    ended = weights(stage)
    assert all((ended[name] - tensor).abs().max() > 1e-3 for name, tensor in started.items())
    stage.finish(tmp_path, [])
    for name, tensor in load_file(tmp_path / "adapter_model.safetensors").items():
        assert torch.equal(tensor, ended[f"policy.{name.removeprefix('base_model.model.')}"])


def fresh(stage: Stage, folder: Path) -> Path:
    """The adapter that a stage starts with."""
    (folder / "fresh").mkdir()
    stage.finish(folder / "fresh", [])
    return folder / "fresh"


def look(learner: Learner, inputs: Inputs, samples: list[Sample], temperature: float) -> Batch:
    tokenizer = AutoTokenizer.from_pretrained(inputs.base)
    prompts = [
        tokenizer(f"<turn>u:{s.prompt}</s><turn>a:", add_special_tokens=False)["input_ids"]
        for s in samples
    ]
    tokens = [list(sample.tokens) for sample in samples]
    return learner.measure(prompts, tokens, {EOS, *ENDS}, temperature)


def score_by_hand(score: float, finished: bool, missing_eos: str) -> float:
    if finished:
        return score
    return -0.5 if missing_eos == "replace" else score - 0.5


@torch.no_grad()
def check_draws(learner: Learner, batch: Batch, step: int, longest: int) -> None:
    """Each token is the one whose share of the distribution holds its random number."""
    temperature = learner.ppo.sampling.temperature
    draws = noise(learner.seed, "rollout", step, len(batch.tokens), longest)
    for row, tokens in enumerate(batch.tokens):
        for place, token in enumerate(tokens):
            logp, _ = learner.see(batch.prompts[row] + tokens[:place], temperature)
            below = float(logp[:token].exp().sum())
            above = below + float(logp[token].exp())
            assert below - 1e-5 <= float(draws[row, place]) <= above + 1e-5
        assert len(tokens) == longest or batch.finished[row]
        assert not {EOS, *ENDS} & set(tokens[:-1])


def check_aim(
    aimed: Aim, batch: Batch, scores: list[float], returns: Rows, kl_coef: float, spec: Ppo
) -> None:
    """Each token's reward and return; the group estimators have neither."""
    assert aimed.targets is not None
    if spec.advantage != "gae":
        assert aimed.rewards is None
        assert not aimed.targets.returns.any()
        return
    assert aimed.rewards is not None
    kl = kls(spec.kl.estimator, batch.logp, batch.ref_logp)
    expected = rewards_by_hand(kl, scores, kl_coef, spec)
    for ours, theirs in ((aimed.rewards, expected), (aimed.targets.returns, returns)):
        for row, values in zip(ours.tolist(), theirs, strict=True):
            assert row[: len(values)] == pytest.approx(values, rel=FIGURE, abs=1e-5)
            assert not any(row[len(values) :])


def check_samples(
    samples: list[Sample], batch: Batch, scores: list[float], advantages: Rows, spec: Ppo
) -> None:
    kl = kls("k1", batch.logp, batch.ref_logp)
    for row, sample in enumerate(samples):
        assert sample.finished == batch.finished[row]
        assert sample.score == pytest.approx(scores[row], rel=FIGURE, abs=1e-5)
        assert list(sample.detail.values()) == pytest.approx([batch.raw[row]], rel=FIGURE, abs=1e-5)
        assert sample.kl == pytest.approx(sum(kl[row]), rel=FIGURE, abs=1e-5)
        assert list(sample.logp) == pytest.approx(batch.logp[row], rel=FIGURE, abs=1e-5)
        assert list(sample.ref_logp) == pytest.approx(batch.ref_logp[row], rel=FIGURE, abs=1e-5)
        if spec.advantage == "gae":
            assert list(sample.value) == pytest.approx(batch.values[row], rel=FIGURE, abs=1e-5)
        else:
            assert not sample.value
        assert list(sample.advantage) == pytest.approx(advantages[row], rel=FIGURE, abs=1e-4)


def figures(
    batch: Batch, scores: list[float], returns: list[list[float]], kl_coef: float
) -> dict[str, float]:
    """The step's figures, from the batch."""
    count = len(batch.tokens)
    kl = sum(flat(kls("k1", batch.logp, batch.ref_logp))) / count
    pairs = zip(flat(returns), flat(batch.values), strict=True)
    spread = variance(flat(returns))
    return {
        "score": mean(scores),
        "score_std": statistics.stdev(scores),
        "kl": kl,
        "kl_k3": sum(flat(kls("k3", batch.logp, batch.ref_logp))) / count,
        "net_reward": mean(scores) - kl_coef * kl,
        "entropy": mean(flat(batch.entropy)),
        "response_tokens": len(flat(batch.logp)) / count,
        "eos_rate": mean([float(done) for done in batch.finished]),
        "explained_variance": 1 - variance([r - v for r, v in pairs]) / spread if spread else 0.0,
    }
