"""Remedies for want of memory: settings that exist, are not set yet, and matter to the stage."""

from pathlib import Path

import pytest

from rlhf_engine.job.presets import load_preset
from rlhf_engine.job.remedies import loading_remedies, remedies
from rlhf_engine.job.spec import Spec

HEAD = 'policy = "some/model"\n[data]\npath = "rows.jsonl"\n'
JUDGE = '[reward]\nscore = "rule:brevity"\n'
STAGES = {
    "sft": HEAD,
    "reward": HEAD,
    "dpo": HEAD,
    "ppo": HEAD + JUDGE,
    "collect": HEAD + JUDGE,
    "evaluate": HEAD + JUDGE,
}
SMALL = (
    "model.gradient_checkpointing=true",
    "dpo.sampling.merge=false",
    "dpo.optimizer.eight_bit=true",
)


def spec_of(folder: Path, stage: str, *overrides: str) -> Spec:
    path = folder / "spec.toml"
    path.write_text(f'stage = "{stage}"\n' + STAGES[stage])
    return load_preset(str(path), list(overrides)).stages[0]


@pytest.mark.parametrize("backward", [True, False])
@pytest.mark.parametrize("stage", STAGES)
def test_taking_remedy_after_remedy_ends_with_the_smallest_spec(
    tmp_path: Path, stage: str, backward: bool
) -> None:
    """Each is a valid override that changes the spec; none is offered again once it is taken."""
    taken: list[str] = []
    spec = spec_of(tmp_path, stage)
    assert len(remedies(spec, backward=backward)) == 3
    while offered := [text.split(" ")[0] for text in remedies(spec, backward=backward)]:
        assert not set(offered) & set(taken)
        taken.append(offered[0])
        smaller = spec_of(tmp_path, stage, *taken)
        assert smaller != spec
        spec = smaller
    assert "model.quantization=nf4" in taken


def test_what_is_offered_helps_there(tmp_path: Path) -> None:
    def names(stage: str, *overrides: str, backward: bool = True) -> str:
        return " ".join(remedies(spec_of(tmp_path, stage, *overrides), backward=backward))

    assert "gradient_checkpointing" in names("ppo")
    assert "gradient_checkpointing" not in names("ppo", backward=False)
    assert "gradient_checkpointing" not in names("collect")
    assert "gradient_checkpointing" not in names("sft", "model.gradient_checkpointing=true")
    assert "ppo.sampling.merge=false" in names("ppo", backward=False)
    assert "merge" not in names("collect"), "a bare base has no adapters to merge"
    assert "collect.sampling.merge=false" in names("collect", "policy=run:sft")
    assert "evaluate.sampling.merge=false" in names("evaluate", 'evaluate.against=["run:ppo"]')
    assert "merge" not in names("sft")
    assert "dpo.sampling.merge=false" in names("dpo")
    assert "data.max_tokens=512" in names("dpo", *SMALL)
    assert names("reward", "model.quantization=nf4").count("data.max_tokens=512") == 1


@pytest.mark.parametrize("stage", STAGES)
def test_while_the_base_loads_only_what_shrinks_it_is_offered(tmp_path: Path, stage: str) -> None:
    assert loading_remedies(spec_of(tmp_path, stage)) == [
        "model.quantization=int8 (a slightly coarser base)",
        "model.quantization=nf4 (a coarser base)",
        "a smaller base model",
    ]
    wide = loading_remedies(spec_of(tmp_path, stage, "model.dtype=fp32"))
    assert wide[0] == "model.dtype=bf16 (coarser rounding)"
    for setting in (text.split(" ")[0] for text in wide[:-1]):
        taken = spec_of(tmp_path, stage, "model.dtype=fp32", setting)
        assert not any(text.startswith(setting) for text in loading_remedies(taken))
    assert loading_remedies(spec_of(tmp_path, stage, "model.quantization=nf4")) == [
        "a smaller base model"
    ]
