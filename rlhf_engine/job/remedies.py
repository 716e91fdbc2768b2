"""What a person can change in a spec when memory runs out."""

from collections.abc import Iterator

from rlhf_engine.job.section import Section
from rlhf_engine.job.spec import EvaluateSpec, PpoSpec, Spec

COUNT = 3


def remedies(spec: Spec, *, generating: bool = False) -> list[str]:
    """Settings that would lower the peak memory of this spec, the three cheapest first.

    `generating` says that memory ran out while sampling: then what training alone takes does not
    matter.
    """
    return [
        f"{setting} ({price})" for setting, price in (*_harmless(spec, generating), *_lossy(spec))
    ][:COUNT]


def _harmless(spec: Spec, generating: bool) -> Iterator[tuple[str, str]]:
    """What costs time, and changes the result by rounding at most."""
    section = getattr(spec, spec.stage)
    trains = hasattr(section, "optimizer") and not generating
    if trains and not spec.model.gradient_checkpointing:
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
    adapted = isinstance(spec, PpoSpec) or any(policy.startswith("run:") for policy in policies)
    return adapted and hasattr(section, "sampling") and bool(section.sampling.merge)


def _lossy(spec: Spec) -> Iterator[tuple[str, str]]:
    """What changes the result."""
    section = getattr(spec, spec.stage)
    if spec.model.quantization != "nf4":
        yield "model.quantization=nf4", "a coarser base"
    if hasattr(section, "sampling"):
        if section.sampling.max_new_tokens > 1:
            half = section.sampling.max_new_tokens // 2
            yield f"{spec.stage}.sampling.max_new_tokens={half}", "shorter responses"
        if spec.data.max_prompt_tokens > 1:
            yield f"data.max_prompt_tokens={spec.data.max_prompt_tokens // 2}", "cut prompts"
    elif spec.data.max_tokens > 3:
        yield f"data.max_tokens={spec.data.max_tokens // 2}", "cut conversations"
    lora = getattr(spec, "lora", None)
    if lora is not None and lora.r > 1:
        yield f"lora.r={lora.r // 2}", "a smaller adapter"
