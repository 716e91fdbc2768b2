"""`make bench`: seconds of a PPO step by phase, and peak memory, with both kinds of value role.

Needs a quiet machine. Prints one JSON object a run: medians over the steps after the first.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_engine.job.presets import load_preset
from rlhf_engine.model.builtin import builtin_model
from rlhf_engine.runs.directory import create_run
from rlhf_engine.runs.reader import StoreReader

TOPICS = """
cats, the sea, an old train, winter, a good soup, maths, my neighbour, the moon, football,
a long walk, music, trees, the news, a small town, bread, a storm
"""
# A token that the model never says, so that every response has its full length.
NEVER = "<file_sep>"


def prepare(folder: Path) -> list[str]:
    """A model that never ends early, and the prompts; returns the overrides that name them."""
    source = builtin_model("smollm2-135m", lambda text: print(text, file=sys.stderr))
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.eos_token = NEVER
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = [{"prompt": f"Write one sentence about {topic.strip()}."} for topic in TOPICS.split(",")]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [f"policy={folder / 'model'}", f"data.path={folder / 'prompts.jsonl'}"]


def measure(folder: Path, overrides: list[str]) -> dict[str, object]:
    preset = load_preset(str(Path(__file__).with_name("ppo.toml")), overrides)
    run = create_run(folder, preset.stages[0])
    with run.log.open("w") as log:
        command = [sys.executable, "-m", "rlhf_engine", str(run.path)]
        done = subprocess.run(command, stdout=log, stderr=log, check=False)
    if done.returncode:
        sys.exit(run.log.read_text())
    reader = StoreReader.open(run.store)
    assert reader is not None
    with reader:
        steps = reader.steps()[1:]
    return {
        "seconds_per_step": statistics.median(row.metrics["seconds"] for row in steps),
        "phases": {
            name: statistics.median(row.phases[name] for row in steps) for name in steps[0].phases
        },
        "response_tokens": steps[0].metrics["response_tokens"],
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overrides = prepare(folder)
        # The shared trunk first: the peak of finished children only ever grows.
        for value in ("shared", "separate"):
            found = measure(folder, [*overrides, f"ppo.value={value}"])
            print(json.dumps({"value": value, "cores": os.cpu_count(), **found}), flush=True)


if __name__ == "__main__":
    main()
