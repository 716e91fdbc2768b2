"""The model card of an output: what was trained, on what, from what, with which figures."""

from pathlib import Path

import tomlkit

from rlhf_engine.job.spec import EvaluateSpec, PpoSpec, RewardSpec, SftSpec, Spec, inputs
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.reader import StepRow

TITLES = {
    "sft": "LoRA adapter, supervised fine-tuning",
    "reward": "Reward model: LoRA adapter and scalar head",
    "ppo": "LoRA adapter, PPO",
    "collect": "Preference pairs sampled from a policy",
    "evaluate": "Comparison of policies",
}
LOADING = {
    "causal": """```python
from peft import AutoPeftModelForCausalLM
model = AutoPeftModelForCausalLM.from_pretrained("FOLDER")
```""",
    "score": """```python
from peft import PeftModel
from transformers import AutoModelForSequenceClassification
base = AutoModelForSequenceClassification.from_pretrained("BASE", num_labels=1)
model = PeftModel.from_pretrained(base, "FOLDER")
```
The score is read from the last token of the conversation; its scale is that of this run.""",
}


def write_card(folder: Path, run: RunDir, spec: Spec, base: str, last: StepRow | None) -> None:
    """Write README.md with the hub's metadata header."""
    trained = isinstance(spec, SftSpec | RewardSpec | PpoSpec)
    header = ["---", "library_name: peft", f"base_model: {base}"] if trained else ["---"]
    if isinstance(spec, RewardSpec):
        header.append("pipeline_tag: text-classification")
    parts = [
        "\n".join([*header, "tags: [rlhf-workbench, " + spec.stage + "]", "---"]),
        f"# {spec.name}\n\n{TITLES[spec.stage]}, made by RLHF Workbench in run `{run.id}`.",
        _lineage(spec, base),
    ]
    if trained:
        how = LOADING["score" if isinstance(spec, RewardSpec) else "causal"]
        parts.append("## Loading\n\n" + how.replace("BASE", base))
    if last is not None:
        parts.append(_figures(last))
    if isinstance(spec, PpoSpec | EvaluateSpec):
        parts.append("KL is in nats per response, against the policy that the run started from.")
    dumped = tomlkit.dumps(spec.model_dump(exclude_none=True))
    parts.append(f"## Spec\n\n```toml\n{dumped}```")
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _lineage(spec: Spec, base: str) -> str:
    lines = [f"- base: `{base}`", f"- started from: `{spec.policy}`", f"- data: `{spec.data.path}`"]
    if spec.fork:
        lines.append(f"- forked from run: `{spec.fork.run}` after step {spec.fork.step}")
    lines += [f"- reads run: `{parent}`" for parent in inputs(spec)]
    return "## Lineage\n\n" + "\n".join(lines)


def _figures(last: StepRow) -> str:
    rows = [f"| {name} | {value:.4g} |" for name, value in sorted(last.metrics.items())]
    return "\n".join(
        [f"## Figures at step {last.step}\n", "| metric | value |", "|---|---|", *rows]
    )
