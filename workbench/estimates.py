"""The memory that a preset's stages will take, from what the engine says of model and device."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_engine.job.estimate import Estimate, estimate, sampling_of
from rlhf_engine.job.footprint import Device, Shape
from rlhf_engine.job.presets import Preset
from rlhf_engine.job.remedies import COUNT, Saving, savings
from rlhf_engine.job.spec import Spec
from workbench.commands.text import gib

# The model's and the device's numbers do not depend on these.
BESIDE_THE_POINT = ("seed", "threads", "changes", "checkpoints", "data")


@dataclass(frozen=True)
class StageMemory:
    """One stage's estimate and where it runs, or why there is none."""

    spec: Spec
    device: str = ""
    numbers: tuple[Shape, Device] | None = None
    problem: str = ""

    @property
    def found(self) -> Estimate | None:
        return estimate(self.spec, *self.numbers) if self.numbers else None

    def lacks(self, free: Mapping[str, int]) -> bool:
        """Whether it takes more than is free where it runs; False where that is not known."""
        found, room = self.found, free.get(self.device)
        return found is not None and room is not None and found.peak.bytes > room

    def remedies(self) -> list[Saving]:
        """The cheapest settings that lower the peak."""
        return savings(self.spec, *self.numbers)[:COUNT] if self.numbers else []


def basis(preset: Preset) -> str:
    """All that the engine's numbers depend on, to be compared."""
    return json.dumps([_basis(spec) for spec in preset.stages])


def _basis(spec: Spec) -> dict[str, Any]:
    table = spec.model_dump(exclude={*BESIDE_THE_POINT, spec.stage})
    sampling = sampling_of(spec)
    table["against"] = getattr(getattr(spec, spec.stage), "against", [])
    table["tokens"] = sampling.max_new_tokens if sampling else 0
    return table


def stage_memory(preset: Preset, told: Sequence[Mapping[str, Any]]) -> list[StageMemory]:
    """What the engine's numbers mean for each stage as its spec is now; it tells of the first ones
    first."""
    return [_stage_memory(spec, answer) for spec, answer in zip(preset.stages, told, strict=False)]


def _stage_memory(spec: Spec, answer: Mapping[str, Any]) -> StageMemory:
    if "error" in answer:
        return StageMemory(spec, problem=str(answer["error"]))
    numbers = Shape(**answer["shape"]), Device(**answer["device"])
    return StageMemory(spec, str(answer["on"]), numbers)


def misfit(stage: StageMemory, free: Mapping[str, int]) -> str:
    """Why a stage does not fit, and what would help, in lines of plain text."""
    found = stage.found
    assert found is not None, "only an estimate can be too large"
    told = (
        f"{stage.spec.name}: the estimate is {gib(found.peak.bytes)} in {found.peak.name}, and "
        f"{gib(free[stage.device])} is free on {stage.device} now."
    )
    helps = [
        f"  {saving.setting}: {saving.price}, saves {gib(saving.bytes)}"
        for saving in stage.remedies()
    ]
    return "\n".join([told, *(["The cheapest changes:"] if helps else []), *helps])
