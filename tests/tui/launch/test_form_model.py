import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhf_engine.job.guards import guards_of
from rlhf_engine.job.knobs import knobs_of
from rlhf_engine.job.presets import load_preset, parse_value
from rlhf_engine.job.spec import STAGES, PpoSpec
from workbench.form_fields import FormField, form_fields
from workbench.form_model import NAME, Form


def field(form: Form, key: str, stage: int = 0) -> FormField:
    return next(item for item in form.fields(stage) if item.key == key)


def overrides(command: str) -> list[str]:
    words = shlex.split(command)
    return [words[place + 1] for place, word in enumerate(words) if word == "--set"]


def test_every_knob_is_marked_live_with_bounds_unit_and_help() -> None:
    fields = {item.key: item for item in form_fields(PpoSpec)}
    assert {item.knob for item in fields.values() if item.knob} == set(knobs_of(PpoSpec))
    coef = fields["ppo.kl.coef"]
    assert (coef.bounds, coef.unit) == ("0 to 10", "reward per nat")
    assert coef.help.startswith("Price of one nat")
    assert fields["ppo.kl.target"].bounds == "more than 0, at most 10000"
    assert fields["ppo.kl.estimator"].choices == ("k1", "k2", "k3")


def test_the_form_offers_every_field_but_name_kind_and_fork() -> None:
    for model in STAGES.values():
        keys = {item.key for item in form_fields(model)}
        tops = {key.split(".")[0] for key in keys}
        assert tops == set(model.model_fields) - {"name", "stage", "fork"}


def test_untouched_form_is_the_preset(home: Path) -> None:
    form = Form.open("tiny", home)
    assert form.command() == f"workbench run tiny --home {home}"
    assert form.check().preset == load_preset("tiny")


def test_typing_the_same_value_otherwise_is_no_change(home: Path) -> None:
    form = Form.open("tiny", home)
    form.type(0, field(form, "ppo.lam"), "0.950")
    assert not form.is_touched


def test_command_line_gives_what_the_form_launches(home: Path) -> None:
    form = Form.open("both", home)
    form.type(0, field(form, "seed"), "7")
    form.type(1, field(form, "seed", 1), "9")
    form.type(1, field(form, "data.columns", 1), '{prompt = "the question"}')
    form.type(1, field(form, "reward.gold", 1), '["rule:vowels", "my file.py:score"]')
    form.type(1, field(form, "data.system", 1), "it's $HOME; 5")
    launched = form.check().preset
    assert launched == load_preset("both", overrides(form.command()))
    assert launched is not None
    assert [spec.seed for spec in launched.stages] == [7, 9]
    assert launched.stages[1].data.columns == {"prompt": "the question"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_of_any_kind_survives_editor_and_override(text: str) -> None:
    system = next(item for item in form_fields(PpoSpec) if item.key == "data.system")
    shown = system.show(text)
    assert shown.isprintable()
    assert parse_value(system.override(shown)) == text


@pytest.mark.parametrize("value", ["7", "true", "0.1", "[1]", '"quoted"', "2024-01-01"])
def test_text_that_looks_like_another_type_stays_text(home: Path, value: str) -> None:
    form = Form.open("tiny", home)
    form.type(0, field(form, "data.split"), value)
    preset = form.check().preset
    assert preset is not None
    assert preset.stages[0].data.split == value.strip('"')


def test_a_problem_stands_at_its_field_in_its_stage(home: Path) -> None:
    form = Form.open("both", home)
    form.type(1, field(form, "ppo.kl.coef", 1), "-1")
    form.type(0, field(form, "lora.r"), "0")
    verdict = form.check()
    assert verdict.preset is None
    assert verdict.problems == {
        (0, "lora.r"): "input should be greater than or equal to 1, not 0",
        (1, "ppo.kl.coef"): "input should be greater than or equal to 0, not -1",
    }


def test_a_rule_between_fields_stands_at_their_table(home: Path) -> None:
    form = Form.open("tiny", home)
    form.type(0, field(form, "ppo.minibatches"), "5")
    assert form.check().problems == {(0, "ppo"): "minibatches = 5 does not divide batch_size = 32"}


def test_a_bad_name_and_a_bad_field_are_both_said(home: Path) -> None:
    form = Form.open("tiny", home)
    form.name = "No Capitals"
    form.type(0, field(form, "seed"), "x")
    assert set(form.check().problems) == {(0, NAME), (0, "seed")}


def test_an_input_run_that_is_missing_is_said(home: Path) -> None:
    form = Form.open("tiny", home)
    form.type(0, field(form, "policy"), "run:gone")
    assert "no run 'gone'" in form.check().problems[0, ""]


def test_undo_gives_the_preset_back(home: Path) -> None:
    form = Form.open("tiny", home)
    steps = field(form, "ppo.steps")
    form.type(0, steps, "5")
    assert [(c.before, c.after) for c in form.changes()] == [("60", "5")]
    form.undo(0, steps)
    assert form.text(0, steps) == "60"
    assert not form.changes()


RULE = '{metric = "kl", above = 2.0, action = "scale", knob = "kl_coef", factor = 1.5}'


def test_a_list_of_tables_is_one_line_that_can_be_edited_and_launched(home: Path) -> None:
    form = Form.open("tiny", home)
    guards = field(form, "guards")
    assert (form.text(0, guards), "kl_target" in guards.help) == ("[]", True)
    form.type(0, guards, f"[{RULE}]")
    (change,) = form.changes()
    assert change.override == f"guards=[{RULE}]"
    verdict = form.check()
    assert verdict.preset is not None, verdict.problems
    (guard,) = guards_of(verdict.preset.stages[0])
    assert guards.show([guard]) == f"[{RULE}]", "defaults are left out"
    form.type(0, guards, f"[{RULE.replace('kl_coef', 'kl_cof')}]")
    (((_, key), line),) = form.check().problems.items()
    assert (key, "did you mean 'kl_coef'" in line) == ("guards.0.knob", True)


def test_limits_are_edited_as_a_pair_and_say_their_unit(home: Path) -> None:
    form = Form.open("tiny", home)
    limits = field(form, "health.kl")
    assert (form.text(0, limits), limits.unit) == ("[2.0, 4.0]", "× kl_target")
    form.type(0, limits, "[2, 4]")
    assert not form.changes()
    form.type(0, limits, "[3]")
    assert "write [watch, bad]" in form.check().problems[0, "health.kl"]
    assert [f.group for f in form.fields(0)][-1] == "health"
