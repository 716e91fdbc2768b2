"""What stages start from, made on the spot by PEFT itself; and stages built in this process."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from rlhf_engine.fitting import Sizes
from rlhf_engine.job.knobs import knob_values
from rlhf_engine.job.spec import SPEC, RunSpec
from rlhf_engine.memory import peak_memory
from rlhf_engine.progress import Reporter
from rlhf_engine.runs.sample import Sample
from rlhf_engine.runs.writer import StoreWriter
from rlhf_engine.stages.stage import Stage, Workplace
from rlhf_engine.work import STAGES
from tests.tiny import save_tiny

ENDS = range(100, 150)
PROMPTS = ["a", "hello there", "b c", "what is it that you would like to know", "why", "so be it"]
ANSWERS = ["yes", "it is what it is, and no more than that", "no", "perhaps", "I do not know", "b"]


@dataclass(frozen=True)
class Inputs:
    """A base, a policy and a reward adapter on it, and rows for every stage."""

    base: Path
    policy: Path
    reward: Path
    rows: Path


def make_inputs(
    folder: Path,
    kind: str = "llama",
    ends: Iterable[int] = ENDS,
    vocabulary: int | None = None,
) -> Inputs:
    return inputs_on(save_tiny(folder / "base", kind, ends, vocabulary), folder)


def inputs_on(base: Path, folder: Path) -> Inputs:
    """Adapters and rows for a base; equal seeds give equal adapters on every base."""
    rows = folder / "rows.jsonl"
    answers = zip(PROMPTS, ANSWERS, reversed(ANSWERS), strict=True)
    lines = [json.dumps({"prompt": p, "chosen": c, "rejected": r}) for p, c, r in answers]
    rows.write_text("\n".join(lines) + "\n")
    policy = write_adapter(base, folder / "policy", head=False, seed=1)
    return Inputs(base, policy, write_adapter(base, folder / "reward", head=True, seed=2), rows)


def plain_model(base: Path, *, head: bool) -> Any:
    """What transformers loads: a causal model, or one with a scalar score of the last token."""
    if head:
        return AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=1, dtype=torch.float32, attn_implementation="eager"
        )
    return AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, attn_implementation="eager"
    )


def write_adapter(
    base: Path, folder: Path, *, head: bool, seed: int, targets: str | list[str] = "all-linear"
) -> Path:
    task = "SEQ_CLS" if head else "CAUSAL_LM"
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type=task)
    model = get_peft_model(plain_model(base, head=head), config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(str(folder))
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


PPO: dict[str, Any] = {
    "steps": 4,
    "batch_size": 6,
    "epochs": 2,
    "minibatches": 2,
    "micro_batch_size": 2,
    "missing_eos": "subtract",
    "missing_eos_penalty": 0.5,
    "normalise_score": "mean_std",
    "gamma": 0.97,
    "lam": 0.9,
    "clip": 0.05,
    "value_clip": 0.05,
    "value_coef": 0.5,
    "kl": {"coef": 0.3},
    "sampling": {"max_new_tokens": 7, "temperature": 0.7, "batch_size": 4},
    "optimizer": {
        "lr": 0.004,
        "schedule": "linear",
        "warmup_steps": 2,
        "weight_decay": 0.1,
        "max_grad_norm": 0.5,
    },
}
TUNING: dict[str, Any] = {
    "batches": {"batch_size": 5, "micro_batch_size": 2, "eval_every": 1, "epochs": 4.0},
    "optimizer": {"lr": 0.004, "weight_decay": 0.1, "max_grad_norm": 0.5},
}

DPO: dict[str, Any] = {
    **TUNING,
    "sample_every": 1,
    "sample_prompts": 4,
    "sampling": PPO["sampling"],
}
TABLES = {"ppo": PPO, "dpo": DPO}


def make_spec(
    stage: str,
    inputs: Inputs,
    *,
    policy: Path | None = None,
    model: dict[str, Any] | None = None,
    reward: dict[str, Any] | None = None,
    eval_rows: int = 0,
    device: str = "cpu",
    **changes: Any,
) -> Any:
    """A spec of a stage on these inputs; `changes` go into the stage's own table."""
    table = dict(TABLES.get(stage, TUNING))
    for name, value in changes.items():
        table[name] = {**table.get(name, {}), **value} if isinstance(value, dict) else value
    spec: dict[str, Any] = {
        "stage": stage,
        "policy": str(policy or inputs.policy),
        "seed": 3,
        "device": device,
        "model": {"dtype": "fp32", **(model or {})},
        "data": {"path": str(inputs.rows), "eval_rows": eval_rows},
        stage: table,
    }
    if stage == "ppo":
        spec["reward"] = reward or {"score": str(inputs.reward)}
    return SPEC.validate_python(spec)


def build(spec: RunSpec, home: Path, reporter: type[Reporter] = Reporter) -> Stage:
    """The stage as the engine builds it."""
    store = StoreWriter(home / f"{len(list(home.glob('*.db')))}.db")
    if spec.device != "cpu":
        torch.cuda.init()
    report = reporter(store, lambda: False, peak_memory(spec.device))
    sizes = Sizes(spec, store, report)  # type: ignore[arg-type]
    place = Workplace(home, "run", torch.device(spec.device), report, sizes)
    return STAGES[spec.stage](spec, place)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Done:
    """What some steps of a stage left: figures and samples a step, weights at the end."""

    metrics: list[dict[str, float]]
    samples: list[list[Sample]]
    weights: dict[str, Tensor]


def run(spec: RunSpec, home: Path, steps: int = 2, **knobs: float) -> Done:
    """Do steps with the spec's knobs, or with others."""
    stage = build(spec, home)
    values = {**knob_values(spec), **knobs}
    records = [stage.step(step, values) for step in range(1, steps + 1)]
    return Done(
        [dict(record.metrics) for record in records],
        [list(record.samples) for record in records],
        weights(stage),
    )


def weights(stage: Stage) -> dict[str, Tensor]:
    """Copies of all that a stage trains, by role and name."""
    state = stage.state()
    assert state is not None
    return {
        f"{role}.{name}": tensor.clone()
        for role, tensors in state.tensors.items()
        for name, tensor in tensors.items()
        if role != "optimizer"
    }


def same_weights(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """Assert equality up to fp32 rounding: 99 % of each tensor to 2e-6, weights being about 0.1.

    AdamW divides by the size of the gradient, so a lone weight whose gradient is all but zero
    moves by its rounding: it may differ by a hundredth of what other weights moved.
    """
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        difference = (ours[name] - tensor).abs().flatten()
        assert difference.quantile(0.99) <= 2e-6, name
        assert difference.max() <= 2e-4, name
