"""Rewards of tokens in the viewer: the numbers that the engine trained on."""

import random
from pathlib import Path

import pytest
import torch

from rlhf_engine.rl.kl import Estimator, per_token_kl
from rlhf_engine.rl.rewards import penalised_rewards
from tests.tui.fake_run import SPECS, fake_run
from tests.tui.samples.conftest import reading, sample
from workbench.token_rewards import RewardRule

PIECES = ("Give", " it", " light", ".")


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("count", [1, 2, 40])
def test_rewards_are_those_of_the_engine(estimator: Estimator, count: int) -> None:
    chance = random.Random(count)
    ratios = [chance.gauss(0, 1) for _ in range(count)]
    # Far off on either side: beyond the cap of k3, and beyond what can be exponentiated.
    ratios[: count // 8] = [-3.0, 12.0, -100.0, 900.0, -900.0][: count // 8]
    logp = [-chance.expovariate(1) for _ in ratios]
    row = sample(
        pieces=["a"] * count,
        logp=logp,
        ref_logp=[own - ratio for own, ratio in zip(logp, ratios, strict=True)],
        score=1.5,
    )
    own, reference = (
        torch.tensor([values], dtype=torch.float64) for values in (row.logp, row.ref_logp)
    )
    penalty = per_token_kl(estimator, own, reference)
    mask = torch.ones_like(own, dtype=torch.bool)
    score = torch.tensor([1.5], dtype=torch.float64)
    engine = penalised_rewards(score, penalty, 0.08, mask)[0].tolist()
    told = RewardRule(estimator, whitened=False).rewards(row, {"kl_coef": 0.08})
    assert told == pytest.approx(engine, abs=1e-12)


def test_rewards_of_a_response_sum_to_its_net_reward() -> None:
    ratios = [0.25, -0.5, 1.0, 0.75]
    row = sample(
        pieces=PIECES, logp=[-0.5] * 4, ref_logp=[-0.5 - r for r in ratios], kl=1.5, score=2.0
    )
    assert sum(RewardRule("k1", False).rewards(row, {"kl_coef": 0.05})) == pytest.approx(
        row.net_reward
    )


@pytest.mark.parametrize(
    "lacking",
    [{"logp": ()}, {"ref_logp": ()}, {"score": None}, {"kind": "asked"}, {"kind": "eval"}],
    ids=["logp", "reference", "score", "asked", "held out"],
)
def test_what_was_not_trained_on_has_no_rewards(lacking: dict[str, object]) -> None:
    rule = RewardRule("k1", whitened=False)
    assert rule.rewards(sample(**lacking), {"kl_coef": 0.05}) == ()  # type: ignore[arg-type]
    assert rule.rewards(sample(), {}) == ()


def test_figures_that_are_no_numbers_stay_what_they_are() -> None:
    for estimator in ("k1", "k2", "k3"):
        odd = [float("nan"), float("inf"), -float("inf"), 1e300]
        row = sample(pieces=PIECES, logp=odd, ref_logp=odd[::-1])
        assert len(RewardRule(estimator, whitened=False).rewards(row, {"kl_coef": 0.05})) == 4


async def test_each_step_is_priced_with_its_own_coefficient(home: Path) -> None:
    fake = fake_run(home)
    for coef in (0.05, 0.5):
        fake.knobs["kl_coef"] = coef
        fake.steps(1)
        fake.store.samples(fake.step, [sample()])
    async with reading(home, fake.run) as reader:
        await reader.sees("1/2")
        await reader.press("right", "right")
        await reader.sees("log-ratio +3.00", "reward -1.50")
        await reader.press("down")
        await reader.sees("log-ratio +3.00", "reward -0.15")
        await reader.press("right", "right", "right", "right")
        await reader.sees("token 7/7", "log-ratio +0.60", "reward +0.47")


async def test_a_run_that_whitens_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = {"batch_size": 8, "minibatches": 2, "whiten_rewards": True}
    monkeypatch.setitem(SPECS["ppo"], "ppo", section)
    fake = fake_run(home)
    fake.steps(1)
    fake.store.samples(1, [sample()])
    async with reading(home, fake.run) as reader:
        await reader.sees("1/1")
        await reader.press("v", "v", "v")
        await reader.sees("reward of the token before whitening · blue")


@pytest.mark.parametrize("stage", ["sft", "dpo", "collect", "evaluate"])
def test_other_stages_pay_no_tokens(home: Path, stage: str) -> None:
    assert RewardRule.of(fake_run(home, stage).run) is None


def test_a_spec_that_cannot_be_read_pays_none(home: Path) -> None:
    run = fake_run(home).run
    run.spec_file.write_text("stage = [")
    assert RewardRule.of(run) is None


def test_a_token_without_drift_costs_nothing() -> None:
    row = sample(pieces=PIECES, logp=[-0.5] * 4, ref_logp=[-0.5] * 4, score=2.0)
    told = RewardRule("k1", whitened=False).rewards(row, {"kl_coef": 0.05})
    assert [str(reward) for reward in told] == ["0.0", "0.0", "0.0", "2.0"]
