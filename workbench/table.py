"""The result of an evaluation as plain text that fits 80 columns."""

import json
import math
from collections.abc import Iterator, Sequence
from typing import TypedDict

from rlhf_engine.job.spec import EvaluateSpec
from rlhf_engine.runs.directory import RunDir, RunNotFound, find_run
from rlhf_engine.runs.reader import StepRow, StoreReader
from workbench.commands.common import from_store
from workbench.commands.text import clip, paragraph

WIDTH = 80
LABEL = 26


class PolicyRow(TypedDict):
    """One policy's means over the prompts; null where a figure was not measured."""

    policy: str
    run: str
    gold: float | None
    score: float | None
    kl: float | None
    response_tokens: float | None
    eos_rate: float | None


class Difference(TypedDict):
    """Mean difference of a metric over the prompts, with its 95 % bootstrap interval."""

    policy: str
    against: str
    metric: str
    mean: float
    low: float
    high: float


class SampleResponses(TypedDict):
    """A prompt and what each policy answered."""

    prompt: str
    responses: dict[str, str]


class Result(TypedDict):
    """The fact `result` of an evaluate run."""

    reference: str
    rows: list[PolicyRow]
    differences: list[Difference]
    samples: list[SampleResponses]
    prompts: int


def table_of(run: RunDir) -> str | None:
    """The table of an evaluate run; None before its end and for other stages."""
    text = from_store(run, lambda store: store.facts().get("result"), None)
    return render(json.loads(text), reward_accuracy(run)) if text else None


def reward_accuracy(run: RunDir) -> float | None:
    """Held-out accuracy of the reward model that an evaluate run scores with."""
    spec = run.spec()
    if not isinstance(spec, EvaluateSpec) or not spec.reward.score.startswith("run:"):
        return None
    try:
        reward = find_run(run.home, spec.reward.score.removeprefix("run:"))
    except RunNotFound:
        return None
    steps: list[StepRow] = from_store(reward, StoreReader.steps, [])
    return next(
        (s.metrics["eval_accuracy"] for s in reversed(steps) if "eval_accuracy" in s.metrics), None
    )


def render(result: Result, accuracy: float | None = None) -> str:
    """Policies side by side, differences with their intervals, then the samples."""
    blocks = [
        [f"{result['prompts']} held-out prompts, answered by each policy"],
        *_figures(result["rows"]),
        list(_differences(result["differences"])),
        [f"held-out accuracy of the reward model: {accuracy:.3f}"] if accuracy is not None else [],
        *(list(_sample(sample, i + 1)) for i, sample in enumerate(result["samples"])),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _figures(rows: Sequence[PolicyRow]) -> Iterator[list[str]]:
    """As many policies beside each other as fit, then the next ones below."""
    width = min(24, 2 + max(8, *(len(row["policy"]) for row in rows)))
    beside = (WIDTH - LABEL) // width
    for start in range(0, len(rows), beside):
        part = rows[start : start + beside]
        lines = {
            "": [clip(row["policy"], width - 2) for row in part],
            "gold": [_signed(row["gold"]) for row in part],
            "score": [_signed(row["score"]) for row in part],
            "KL (nats per response)": [_plain(row["kl"], 2) for row in part],
            "response length (tokens)": [_plain(row["response_tokens"], 1) for row in part],
            "ends itself": [_percent(row["eos_rate"]) for row in part],
        }
        yield [
            f"{label:<{LABEL}}" + "".join(f"{figure:>{width}}" for figure in figures)
            for label, figures in lines.items()
        ]


def _differences(differences: Sequence[Difference]) -> Iterator[str]:
    if differences:
        yield "difference, mean over prompts and its 95 % bootstrap interval"
    names = [clip(f"{d['policy']} − {d['against']}", 34) for d in differences]
    width = max(map(len, names), default=0)
    for name, d in zip(names, differences, strict=True):
        clear = d["low"] > 0 or d["high"] < 0
        verdict = "" if clear else "  not clear: holds 0"
        interval = f"[{_signed(d['low'])}, {_signed(d['high'])}]"
        figures = f"{d['metric']:<6} {_signed(d['mean']):>8}  {interval:<17}{verdict}"
        yield f"  {name:<{width}}  {figures}".rstrip()


def _sample(sample: SampleResponses, index: int) -> Iterator[str]:
    yield f"sample {index}"
    names = {name: clip(name, 20) for name in sample["responses"]}
    indent = 4 + max(len("prompt"), *map(len, names.values()))
    yield from paragraph("  prompt", sample["prompt"], indent, WIDTH)
    for name, response in sample["responses"].items():
        yield from paragraph(f"  {names[name]}", response or "(nothing)", indent, WIDTH)


def _known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _signed(value: float | None) -> str:
    return f"{value:+.2f}" if _known(value) else "–"


def _plain(value: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" if _known(value) else "–"


def _percent(value: float | None) -> str:
    return f"{value:.0%}" if _known(value) else "–"
