"""`make bench`: a PPO step beside TRL 1.12.0's, seconds and memory, in turns.

python -m tests.bench.ppo PYTHON_WITH_TRL [bf16 fp32]. Needs a quiet machine with two cores.
Prints one JSON object a number format: medians over the steps after the first and over the
rounds, and our share of the peer's.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
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
NEW_TOKENS = 32
STEPS = 3
ROUNDS = 2
MIB = 2**20


def prepare(folder: Path) -> None:
    """A model that never ends early, and the prompts."""
    source = builtin_model("smollm2-135m", lambda text: print(text, file=sys.stderr))
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.eos_token = NEVER
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = [{"prompt": f"Write one sentence about {topic.strip()}."} for topic in TOPICS.split(",")]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def ours(folder: Path, value: str, dtype: str) -> dict[str, float]:
    """One run of our engine: medians of the steps after the first, and its peaks by phase."""
    preset = load_preset(
        str(Path(__file__).with_name("ppo.toml")),
        [
            f"policy={folder / 'model'}",
            f"data.path={folder / 'prompts.jsonl'}",
            f"ppo.value={value}",
            f"model.dtype={dtype}",
            f"ppo.steps={STEPS}",
        ],
    )
    run = create_run(folder, preset.stages[0])
    with run.log.open("w") as log:
        command = [sys.executable, "-m", "rlhf_engine", str(run.path)]
        done = subprocess.run(command, stdout=log, stderr=log, check=False)
    if done.returncode:
        sys.exit(run.log.read_text())
    reader = StoreReader.open(run.store)
    assert reader is not None
    with reader:
        steps, facts = reader.steps(), reader.facts()
    assert all(row.metrics["response_tokens"] == NEW_TOKENS for row in steps)
    # What is resident while prompts are tokenised: libraries, base, adapters.
    loaded = json.loads(facts["setup_memory"])["tokenize"] / MIB
    peak = max(max(row.memory.values()) for row in steps) / MIB
    return {
        "seconds_per_step": statistics.median(row.metrics["seconds"] for row in steps[1:]),
        **{
            f"seconds_{name}": statistics.median(row.phases[name] for row in steps[1:])
            for name in steps[0].phases
        },
        "loaded_mib": loaded,
        "peak_mib": peak,
        "added_mib": peak - loaded,
    }


def peers(folder: Path, python: Path, dtype: str) -> dict[str, float]:
    """One run of TRL in its own environment."""
    script = Path(__file__).with_name("trl_ppo.py")
    arguments = [folder / "model", folder / "prompts.jsonl", STEPS, dtype]
    command = [str(python), str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def main() -> None:
    python, dtypes = Path(sys.argv[1]), sys.argv[2:] or ["bf16", "fp32"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for dtype in dtypes:
            arms: dict[str, Callable[[], dict[str, float]]] = {
                "separate": partial(ours, folder, "separate", dtype),
                "trl": partial(peers, folder, python, dtype),
                "shared": partial(ours, folder, "shared", dtype),
            }
            found: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
            for _ in range(ROUNDS):
                for arm, measure in arms.items():
                    found[arm].append(measure())
                    print(json.dumps({"arm": arm} | found[arm][-1]), file=sys.stderr, flush=True)
            table = {arm: medians(rounds) for arm, rounds in found.items()}
            for arm in ("separate", "shared"):
                for figure in ("seconds_per_step", "added_mib", "peak_mib"):
                    table[arm][f"{figure}_ratio"] = table[arm][figure] / table["trl"][figure]
            cpu = {"threads": 2, "amx": torch.cpu._is_amx_tile_supported()}
            print(json.dumps({"dtype": dtype, **cpu, **table}), flush=True)


if __name__ == "__main__":
    main()
