"""Guards and limits in a spec: what is refused where, and what the shipped presets watch."""

from pathlib import Path

import pytest

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.guards import guards_of, limits_of
from rlhf_engine.job.metrics import metrics_of
from rlhf_engine.job.presets import load_preset, preset_files
from rlhf_engine.job.spec import PpoSpec
from rlhf_engine.runs.directory import create_run


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("metric = 'kll', above = 1, action = 'pause'", r"guards\.0\.metric: 'kll'.*mean 'kl'"),
        ("metric = 'gold', above = 1, action = 'pause'", r"guards\.0\.metric: 'gold' is no figure"),
        ("metric = 'seconds', above = 1, action = 'pause'", r"guards\.0\.metric: .*clock"),
        (
            "metric = 'kl', above = 1, times = 'kl_tagret', action = 'pause'",
            r"guards\.0\.times: .*mean 'kl_target'",
        ),
        (
            "metric = 'kl', above = 1, action = 'scale', knob = 'kl_cof', factor = 2",
            r"guards\.0\.knob: .*mean 'kl_coef'",
        ),
        (
            "metric = 'kl', above = 1, action = 'scale', knob = 'ppo.kl.coef', factor = 2",
            r"guards\.0\.knob: write the knob's name: kl_coef",
        ),
        (
            "metric = 'kl', above = 1, action = 'set', knob = 'kl_coef', value = 11",
            r"guards\.0\.value: kl_coef = 11.*0 <= kl_coef <= 10",
        ),
        (
            "metric = 'kl', above = 1, action = 'set', knob = 'ptx_coef', value = 1",
            r"guards\.0\.value: ptx_coef = 1: .*ptx\.data",
        ),
        ("metric = 'kl', action = 'pause'", r"guards\.0: write one of above, below and not_finite"),
        ("metric = 'kl', above = 1, below = 2, action = 'pause'", r"guards\.0: write one of"),
        (
            "metric = 'kl', not_finite = true, times = 'clip', action = 'pause'",
            r"guards\.0: times goes with above or below",
        ),
        ("metric = 'kl', above = 1, action = 'scale', factor = 2", "scale needs knob"),
        ("metric = 'kl', above = 1, action = 'set', knob = 'clip'", "set needs value"),
        ("metric = 'kl', above = 1, action = 'pause', knob = 'clip'", "pause takes no knob"),
        (
            "metric = 'kl', above = 1, action = 'scale', knob = 'clip', factor = 1",
            "factor = 1 changes nothing",
        ),
        ("metric = 'kl', abov = 1, action = 'pause'", r"guards\.0\.abov: unknown.*mean 'above'"),
        ("metric = 'kl', above = 1, action = 'stop'", r"guards\.0\.action: .*'pause'.*'stop'"),
        ("metric = 'kl', above = 1, steps = 0, action = 'pause'", r"guards\.0\.steps: .*1, not 0"),
    ],
)
def test_a_wrong_rule_is_named_by_its_place_and_field(rule: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        load_preset("smoke", [f"guards=[{{{rule}}}]"])


@pytest.mark.parametrize("text", ["[1]", "[1, 1]", "[1, 2, 3]"])
def test_limits_are_two_different_numbers_or_none(text: str) -> None:
    with pytest.raises(SpecError, match=r"health\.entropy: write \[watch, bad\]"):
        load_preset("smoke", [f"health.entropy={text}"])
    (spec,) = load_preset("smoke", ["health.entropy=[]", "health.kl=[1, 2]"]).stages
    assert limits_of(spec)["entropy"].limits == []
    assert (limits_of(spec)["kl"].limits, limits_of(spec)["kl"].times) == ([1.0, 2.0], "kl_target")


def test_a_stage_that_trains_nothing_takes_no_rules() -> None:
    with pytest.raises(SpecError, match=r"guards.*unknown key"):
        load_preset("demo", ['collect:guards=[{metric = "score", above = 1, action = "pause"}]'])
    collect = load_preset("demo").stages[1]
    assert (guards_of(collect), metrics_of(collect)) == ([], [])


@pytest.mark.parametrize(
    "name", [name for name in preset_files() if "ppo" in name or "-" not in name]
)
def test_shipped_ppo_advises_a_dearer_kl_and_acts_on_nothing(name: str) -> None:
    (spec,) = [spec for spec in load_preset(name).stages if isinstance(spec, PpoSpec)]
    first = guards_of(spec)[0]
    assert (first.condition, first.steps) == ("kl above 2 × kl_target", 3)
    assert (first.action, first.knob, first.factor) == ("scale", "kl_coef", 1.5)
    assert {guard.mode for guard in guards_of(spec)} == {"advise"}


def test_what_is_reported_follows_from_the_spec() -> None:
    (plain,) = load_preset("smoke").stages
    (other,) = load_preset(
        "smoke", ["ppo.advantage=rloo", 'reward.gold=["rule:brevity", "rule:vowels"]']
    ).stages
    assert "value_loss" in metrics_of(plain)
    assert "gold" not in metrics_of(plain)
    assert "value_loss" not in metrics_of(other)
    assert {"gold", "gold_2", "eval_gold_2"} <= set(metrics_of(other))
    assert "gold_3" not in metrics_of(other)


def test_rules_and_limits_are_the_same_when_a_run_is_read_again(tmp_path: Path) -> None:
    (spec,) = load_preset("hh-ppo", ["health.kl=[]", "health.eos_rate=[0.9, 0.5]"]).stages
    assert create_run(tmp_path, spec).spec() == spec
