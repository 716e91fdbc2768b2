"""`make bench`: a PPO step beside TRL 1.12.0's, seconds and memory, in turns.

python -m tests.bench.ppo PYTHON_WITH_TRL [bf16 fp32] [--steps N] [--rounds N]. Needs a quiet
machine with two cores. Prints one JSON object a number format: medians over the steps after the
first and over the rounds, and our share of the peer's.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_engine.model.builtin import builtin_model
from tests.bench.common import MIB, TOPICS, Failed, medians, run_ours, run_peer
from tests.bench.shapes import write_reward

# A token that the model never says, so that every response has its full length.
NEVER = "<file_sep>"
NEW_TOKENS = 32
PRESET = Path(__file__).with_name("ppo.toml")


def prepare(folder: Path) -> None:
    """A model that never ends early, a reward adapter on it, and the prompts."""
    source = builtin_model("smollm2-135m", lambda text: print(text, file=sys.stderr))
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.eos_token = NEVER
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_reward(folder / "model", folder / "reward")
    rows = [{"prompt": f"Write one sentence about {topic.strip()}."} for topic in TOPICS.split(",")]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def settings(folder: Path, value: str, dtype: str, steps: int) -> list[str]:
    """What the preset leaves open."""
    chosen = {
        "policy": folder / "model",
        "data.path": folder / "prompts.jsonl",
        "reward.score": folder / "reward",
        "ppo.value": value,
        "model.dtype": dtype,
        "ppo.steps": steps,
    }
    return [f"{name}={setting}" for name, setting in chosen.items()]


def ours(folder: Path, value: str, dtype: str, steps: int) -> dict[str, float]:
    """One run of our engine: medians of the steps after the first, and its peaks by phase."""
    found = run_ours(folder, PRESET, settings(folder, value, dtype, steps))
    assert all(row.metrics["response_tokens"] == NEW_TOKENS for row in found.steps)
    # What is resident while prompts are tokenised: libraries, base, adapters.
    loaded = found.setup["tokenize"] / MIB
    peak = max(max(row.memory.values()) for row in found.steps) / MIB
    return {
        "seconds_per_step": found.seconds(),
        **{f"seconds_{name}": seconds for name, seconds in found.phases().items()},
        "loaded_mib": loaded,
        "peak_mib": peak,
        "added_mib": peak - loaded,
    }


def peers(folder: Path, python: Path, dtype: str, steps: int) -> dict[str, float]:
    """One run of TRL in its own environment."""
    found: dict[str, float] = run_peer(
        python, [folder / "model", folder / "prompts.jsonl", steps, dtype]
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ppo", description=__doc__)
    parser.add_argument("python", type=Path)
    parser.add_argument("dtypes", nargs="*", default=["bf16", "fp32"])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for dtype in chosen.dtypes:
            arms: dict[str, Callable[[], dict[str, float]]] = {
                "separate": partial(ours, folder, "separate", dtype, chosen.steps),
                "trl": partial(peers, folder, chosen.python, dtype, chosen.steps),
                "shared": partial(ours, folder, "shared", dtype, chosen.steps),
            }
            found: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
            for _ in range(chosen.rounds):
                for arm, measure in arms.items():
                    try:
                        found[arm].append(measure())
                    except Failed as reason:
                        sys.exit(reason.output)
                    print(json.dumps({"arm": arm} | found[arm][-1]), file=sys.stderr, flush=True)
            table = {arm: medians(rounds) for arm, rounds in found.items()}
            for arm in ("separate", "shared"):
                for figure in ("seconds_per_step", "added_mib", "peak_mib"):
                    table[arm][f"{figure}_ratio"] = table[arm][figure] / table["trl"][figure]
            cpu = {
                "threads": 2,
                "steps": chosen.steps,
                "rounds": chosen.rounds,
                "amx": torch.cpu._is_amx_tile_supported(),
                "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
            }
            print(json.dumps({"dtype": dtype, **cpu, **table}), flush=True)


if __name__ == "__main__":
    main()
