"""Specs, knobs and presets: what is refused, and how it is said."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.knobs import (
    check_change,
    find_knob,
    knob_values,
    knobs_of,
    planned_changes,
)
from rlhf_engine.job.presets import load_preset, preset_files, stage_links
from rlhf_engine.job.section import Section
from rlhf_engine.job.spec import STAGES, PpoSpec, inputs

PPO = """
stage = "ppo"
policy = "some/model"
[data]
path = "prompts.jsonl"
[reward]
score = "rule:brevity"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(PPO)
    return path


@pytest.mark.parametrize("name", sorted(preset_files()))
def test_every_shipped_preset_is_valid_and_says_what_it_is(name: str) -> None:
    preset = load_preset(name)
    assert len(preset.about) > 20
    if preset.is_pipeline:
        assert preset.stages[0].stage == "sft"
        assert stage_links(preset.stages[-1])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("[ppo]\nstep = 3", ["mine.toml", "ppo.step", "'steps'"]),
        ("[ppo.kl]\ncoef = 99", ["mine.toml", "ppo.kl.coef", "10", "99"]),
        ("[ppo]\nbatch_size = 10\nminibatches = 4", ["mine.toml", "ppo", "does not divide"]),
        ("[model]\ndtype = 'fp16'", ["model.dtype", "'fp32' or 'bf16'", "'fp16'"]),
        ("[ppo.optimizer]\nlr = nan", ["ppo.optimizer.lr", "finite"]),
    ],
)
def test_a_wrong_key_is_named_with_its_file_and_the_remedy(
    file: Path, line: str, says: list[str]
) -> None:
    file.write_text(PPO + line)
    with pytest.raises(SpecError) as error:
        load_preset(str(file))
    assert all(word in str(error.value) for word in says), str(error.value)


def test_what_is_missing_or_unknown_is_named(file: Path) -> None:
    file.write_text('stage = "pppo"\n')
    with pytest.raises(SpecError, match="'pppo' is no stage; did you mean 'ppo'"):
        load_preset(str(file))
    file.write_text(PPO.replace('policy = "some/model"', ""))
    with pytest.raises(SpecError, match="policy: missing"):
        load_preset(str(file))
    file.write_text("stage = [")
    with pytest.raises(SpecError, match="not valid TOML"):
        load_preset(str(file))
    with pytest.raises(SpecError, match="did you mean 'smoke'"):
        load_preset("smoek")


@pytest.mark.parametrize("key", ["ppo.kl.coef", "kl_coef", "ppo.kl_coef"])
def test_overrides_reach_a_field_by_path_and_by_knob(file: Path, key: str) -> None:
    (spec,) = load_preset(str(file), [f"{key}=0.25"]).stages
    assert isinstance(spec, PpoSpec)
    assert spec.ppo.kl.coef == 0.25


def test_overrides_keep_text_and_refuse_unknown_keys(file: Path) -> None:
    (spec,) = load_preset(str(file), ["data.path=/some/where.jsonl", "threads="]).stages
    assert spec.data.path == "/some/where.jsonl"
    assert spec.threads is None
    with pytest.raises(SpecError, match=r"ppo\.kl\.cof.*did you mean 'ppo\.kl\.coef'"):
        load_preset(str(file), ["ppo.kl.cof=1"])
    with pytest.raises(SpecError, match="key=value"):
        load_preset(str(file), ["ppo.kl.coef"])


def test_an_override_of_a_pipeline_reaches_one_stage_or_all(file: Path) -> None:
    every = load_preset("demo", ["seed=7"])
    assert {spec.seed for spec in every.stages} == {7}
    one = load_preset("demo", ["ppo:data.path=x"])
    assert [s.data.path == "x" for s in one.stages] == [s.name == "ppo" for s in one.stages]


def test_a_pipeline_may_only_read_what_came_before(file: Path) -> None:
    file.write_text('[[stages]]\nstage = "sft"\npolicy = "stage:ppo"\n[stages.data]\npath = "x"\n')
    with pytest.raises(SpecError, match="stage:ppo, which does not come before it"):
        load_preset(str(file))


def test_every_field_of_every_stage_has_help() -> None:
    def walk(model: type[Section], path: str) -> list[str]:
        bare = []
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                bare += walk(field.annotation, f"{path}.{name}")
            elif name != "stage" and not field.description:
                bare.append(f"{path}.{name}")
        return bare

    assert [field for name, model in STAGES.items() for field in walk(model, name)] == []


def test_knobs_are_the_live_fields_with_bounds_units_and_help(file: Path) -> None:
    knobs = knobs_of(PpoSpec)
    assert knobs["kl_coef"].bounds == "0 <= kl_coef <= 10"
    assert knobs["kl_coef"].unit == "reward per nat"
    assert all(knob.help for knob in knobs.values())
    (spec,) = load_preset(str(file), ["kl_coef=0.5"]).stages
    assert knob_values(spec)["kl_coef"] == 0.5
    with pytest.raises(SpecError, match="did you mean 'kl_coef'"):
        find_knob(PpoSpec, "kl_cof")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (
            "{step = 2, knob = 'kl_coef', value = 11}",
            r"changes\.1: kl_coef = 11.*0 <= kl_coef <= 10",
        ),
        ("{step = 2, knob = 'kl_cof', value = 1}", r"changes\.1: 'kl_cof'.*mean 'kl_coef'"),
        ("{step = 0, knob = 'kl_coef', value = 1}", r"changes\.1\.step: .*greater.* 1, not 0"),
        ("{step = 2, knob = 'kl_coef', value = true}", r"changes\.1\.value: .*number, not True"),
        ("{step = 2, knob = 'kl_coef', val = 1}", r"changes\.1\.val: unknown.*mean 'value'"),
        ("{step = 2, knob = 'ptx_coef', value = 1}", r"changes\.1: ptx_coef = 1: .*ptx\.data"),
        ("{step = 2, knob = 'kl_coef'}", r"changes\.1\.value: missing"),
    ],
)
def test_a_planned_change_is_judged_like_a_live_one_and_named_by_its_place(
    file: Path, entry: str, says: str
) -> None:
    good = "{step = 5, knob = 'ppo.kl.coef', value = 1}"
    with pytest.raises(SpecError, match=rf"mine\.toml: {says}"):
        load_preset(str(file), [f"changes=[{good}, {entry}]"])
    (spec,) = load_preset(str(file), [f"changes=[{good}]"]).stages
    assert planned_changes(spec) == {5: [("kl_coef", 1.0)]}


def test_only_the_fork_command_makes_a_fork(file: Path) -> None:
    file.write_text(PPO + "[fork]\nrun = 'x'\nstep = 3\n")
    with pytest.raises(SpecError, match="fork: is written by `workbench fork"):
        load_preset(str(file))


@given(
    st.one_of(
        *(st.floats(), st.integers(), st.booleans(), st.text(), st.none()),
        st.lists(st.integers()),
    )
)
def test_a_knob_takes_numbers_inside_its_bounds_and_nothing_else(value: object) -> None:
    knob = knobs_of(PpoSpec)["kl_coef"]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = number and 0 <= value <= 10  # type: ignore[operator]
    if fits or (isinstance(value, str) and _number(value)):
        assert 0 <= knob.parse(value) <= 10
    else:
        with pytest.raises(SpecError, match="0 <= kl_coef <= 10"):
            knob.parse(value)


def _number(text: str) -> bool:
    try:
        return 0 <= float(text.strip()) <= 10
    except ValueError:
        return False


def test_inputs_are_the_runs_that_a_spec_reads(file: Path) -> None:
    overrides = ["policy=run:a", "reward.score=run:b", 'reward.gold=["run:a", "rule:x"]']
    (spec,) = load_preset(str(file), overrides).stages
    assert inputs(spec) == ["a", "b"]


def test_conversations_beside_ppo_are_read_and_must_be_there_to_be_weighted(file: Path) -> None:
    with pytest.raises(SpecError, match=r"ppo\.ptx: coef > 0 needs .* ppo\.ptx\.data\.path"):
        load_preset(str(file), ["ppo.ptx_coef=0.5"])
    path = "ppo.ptx.data.path=run:talks"
    spec = load_preset(str(file), [path, "ppo.ptx_coef=0.5"]).stages[0]
    assert inputs(spec) == ["talks"]
    pipeline = load_preset("hh", ["ppo:ppo.ptx.data.path=stage:sft"])
    assert [stage_links(s).count("sft") for s in pipeline.stages if s.stage == "ppo"] == [2]

    plain = load_preset(str(file)).stages[0]
    knob = find_knob(type(plain), "ptx_coef")
    check_change(spec, knob, 2.0)
    check_change(plain, knob, 0.0)
    with pytest.raises(SpecError, match=r"^ptx_coef = 2: coef > 0 needs"):
        check_change(plain, knob, 2.0)


def test_an_adaptive_coefficient_cannot_be_0_which_it_could_never_leave(file: Path) -> None:
    adaptive, says = "ppo.kl.controller=adaptive", "coef = 0 .*set coef above 0, or controller ="
    load_preset(str(file), ["ppo.kl.coef=0"])
    with pytest.raises(SpecError, match=rf"ppo\.kl: {says}"):
        load_preset(str(file), [adaptive, "ppo.kl.coef=0"])
    with pytest.raises(SpecError, match=rf"changes\.0: kl_coef = 0: {says}"):
        load_preset(str(file), [adaptive, "changes=[{step = 2, knob = 'kl_coef', value = 0}]"])
    spec = load_preset(str(file), [adaptive]).stages[0]
    knob = find_knob(type(spec), "kl_coef")
    check_change(spec, knob, 1e-6)
    with pytest.raises(SpecError, match=rf"^kl_coef = 0: {says}"):
        check_change(spec, knob, 0.0)
