"""What a person can change in a spec when memory runs out."""

from collections.abc import Iterator
from dataclasses import dataclass

from rlhf_engine.job.estimate import estimate
from rlhf_engine.job.footprint import Device, Shape
from rlhf_engine.job.presets import parse_spec, parse_value
from rlhf_engine.job.section import Section
from rlhf_engine.job.spec import DpoSpec, EvaluateSpec, PpoSpec, Spec

COUNT = 3
# Where a stage's section says how many rows are in memory at once.
SIZES = ("micro_batch_size", "batches.micro_batch_size", "sampling.batch_size")


@dataclass(frozen=True)
class Saving:
    """A setting, what a person gives for it, and the bytes it takes off the peak."""

    setting: str
    price: str
    bytes: int


def savings(spec: Spec, shape: Shape, device: Device) -> list[Saving]:
    """Settings that each lower the estimated peak: first those that cost time and rounding, then
    those that change the result; among both, what saves most comes first."""
    peak = estimate(spec, shape, device).peak.bytes
    found = []
    for offered in ((*_smaller(spec), *_harmless(spec, False)), _lossy(spec)):
        group = [
            Saving(setting, price, peak - estimate(_with(spec, setting), shape, device).peak.bytes)
            for setting, price in offered
        ]
        found += sorted(group, key=lambda saving: -saving.bytes)
    return [saving for saving in found if saving.bytes > 0]


def _smaller(spec: Spec) -> Iterator[tuple[str, str]]:
    """Half as many rows at once; a run that lacks memory does this by itself."""
    table = spec.model_dump()[spec.stage]
    for size in SIZES:
        rows = table
        for part in size.split("."):
            rows = rows.get(part, {})
        if rows and rows > 1:
            yield f"{spec.stage}.{size}={rows // 2}", "more passes"


def _with(spec: Spec, setting: str) -> Spec:
    key, _, text = setting.partition("=")
    whole = table = spec.model_dump()
    *path, last = key.split(".")
    for part in path:
        table = table[part]
    table[last] = parse_value(text)
    return parse_spec(whole, setting)


def remedies(spec: Spec, *, backward: bool = True) -> list[str]:
    """Settings that would lower the peak memory of this spec, the three cheapest first.

    Without `backward`, where there was no backward pass: what is kept for one does not matter.
    """
    return [
        f"{setting} ({price})" for setting, price in (*_harmless(spec, backward), *_lossy(spec))
    ][:COUNT]


def loading_remedies(spec: Spec) -> list[str]:
    """What makes the base smaller, the only thing there while it loads; the cheapest first."""
    found = []
    if spec.model.dtype == "fp32":
        found.append("model.dtype=bf16 (coarser rounding)")
    if spec.model.quantization == "none":
        found.append("model.quantization=int8 (a slightly coarser base)")
    if spec.model.quantization != "nf4":
        found.append("model.quantization=nf4 (a coarser base)")
    return [*found, "a smaller base model"]


def _harmless(spec: Spec, backward: bool) -> Iterator[tuple[str, str]]:
    """What costs time, and changes the result by rounding at most."""
    section = getattr(spec, spec.stage)
    trains = hasattr(section, "optimizer")
    if trains and backward and not spec.model.gradient_checkpointing:
        yield "model.gradient_checkpointing=true", "about a third slower"
    if _merges(spec, section):
        yield f"{spec.stage}.sampling.merge=false", "slower sampling"
    if spec.model.dtype == "fp32":
        yield "model.dtype=bf16", "coarser rounding"
    if trains and not section.optimizer.eight_bit:
        yield f"{spec.stage}.optimizer.eight_bit=true", "coarser moments"


def _merges(spec: Spec, section: Section) -> bool:
    """Whether sampling holds a merged copy: of the adapters that are trained or read from runs."""
    policies = [spec.policy, *(spec.evaluate.against if isinstance(spec, EvaluateSpec) else ())]
    trained = isinstance(spec, PpoSpec | DpoSpec)
    adapted = trained or any(policy.startswith("run:") for policy in policies)
    return adapted and hasattr(section, "sampling") and bool(section.sampling.merge)


def _lossy(spec: Spec) -> Iterator[tuple[str, str]]:
    """What changes the result."""
    section = getattr(spec, spec.stage)
    if spec.model.quantization != "nf4":
        yield "model.quantization=nf4", "a coarser base"
    samples = hasattr(section, "sampling")
    if spec.data.max_tokens > 3 and (not samples or isinstance(spec, DpoSpec)):
        yield f"data.max_tokens={spec.data.max_tokens // 2}", "cut conversations"
    if samples:
        if section.sampling.max_new_tokens > 1:
            half = section.sampling.max_new_tokens // 2
            yield f"{spec.stage}.sampling.max_new_tokens={half}", "shorter responses"
        if spec.data.max_prompt_tokens > 1:
            yield f"data.max_prompt_tokens={spec.data.max_prompt_tokens // 2}", "cut prompts"
    lora = getattr(spec, "lora", None)
    if lora is not None and lora.r > 1:
        yield f"lora.r={lora.r // 2}", "a smaller adapter"
