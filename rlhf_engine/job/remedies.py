"""Changes to a spec that lower its peak memory, cheapest first."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rlhf_engine.job.estimate import estimate, sampling_of
from rlhf_engine.job.footprint import Device, Shape
from rlhf_engine.job.presets import parse_spec
from rlhf_engine.job.spec import CollectSpec, EvaluateSpec, PpoSpec, RewardSpec, SftSpec, Spec


@dataclass(frozen=True)
class Remedy:
    """One change, written as for `--set`, and the bytes that it takes off the peak.

    `costs` says what the person gives for it: time alone, or something of the result.
    """

    change: str
    costs: str
    saves: int


SPEED, RESULT = "speed", "result"


def remedies(spec: Spec, shape: Shape, device: Device) -> list[Remedy]:
    """Every single change that lowers the peak: those that cost time alone come first, then
    those that change the result; in both groups the one that saves most leads."""
    peak = estimate(spec, shape, device).peak.bytes
    found = []
    for costs, key, value in _candidates(spec):
        changed = _with(spec, key, value)
        saves = peak - estimate(changed, shape, device).peak.bytes
        if saves > 0:
            shown = str(value).lower() if isinstance(value, bool) else value
            found.append(Remedy(f"{key}={shown}", costs, saves))
    return sorted(found, key=lambda remedy: (remedy.costs != SPEED, -remedy.saves))


def _candidates(spec: Spec) -> Iterator[tuple[str, str, Any]]:
    match spec:
        case SftSpec():
            yield from _halved(SPEED, "sft.batches.micro_batch_size", spec)
            yield from _halved(RESULT, "data.max_tokens", spec)
        case RewardSpec():
            yield from _halved(SPEED, "reward.batches.micro_batch_size", spec)
            yield from _halved(RESULT, "data.max_tokens", spec)
        case PpoSpec():
            yield from _halved(SPEED, "ppo.micro_batch_size", spec)
            yield from _sampled(spec)
            if spec.ppo.advantage == "gae" and spec.ppo.value == "separate":
                yield RESULT, "ppo.value", "shared"
        case CollectSpec():
            yield from _sampled(spec)
        case EvaluateSpec():
            yield from _halved(SPEED, "evaluate.prompts_per_step", spec)
            yield from _sampled(spec)
    if spec.model.dtype == "fp32":
        yield RESULT, "model.dtype", "bf16"
    if spec.model.quantization != "nf4":
        yield RESULT, "model.quantization", "nf4"


def _sampled(spec: Spec) -> Iterator[tuple[str, str, Any]]:
    table = f"{spec.stage}.sampling"
    sampling = sampling_of(spec)
    yield from _halved(SPEED, f"{table}.batch_size", spec)
    if sampling is not None and sampling.merge:
        yield SPEED, f"{table}.merge", False
    yield from _halved(RESULT, f"{table}.max_new_tokens", spec)
    yield from _halved(RESULT, "data.max_prompt_tokens", spec)


def _halved(costs: str, key: str, spec: Spec) -> Iterator[tuple[str, str, Any]]:
    value: Any = spec
    for name in key.split("."):
        value = getattr(value, name)
    if value > 1:
        yield costs, key, value // 2


def _with(spec: Spec, key: str, value: Any) -> Spec:
    table = whole = spec.model_dump()
    *path, last = key.split(".")
    for name in path:
        table = table[name]
    table[last] = value
    return parse_spec(whole, key)
