"""`make bench-gpu`: PPO with all four roles at published shapes, time and memory against goals.

python -m tests.bench.gpu [--only SHAPE] [--arm ARM] [--steps N] [--trl PYTHON] ... Weights are
random and made on the spot. Every arm is a run in a process of its own, and each ends with a row
in results.jsonl, failed or not: what has a row there is not run again unless --again asks for it.
Prints the rows as they come, and in the end all of them as a table.
"""

import argparse
import json
import platform
import shutil
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pynvml
import torch
from safetensors import SafetensorError

from rlhf_engine.job.errors import SpecError
from tests.bench.common import Failed, estimated, run_ours, run_peer
from tests.bench.report import table
from tests.bench.shapes import SHAPES, make

LARGE = ("qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "llama-3.1-8b")
# With two more models of its size and a value model trained in full, the peer fits no larger ones.
PEER = LARGE[:2]
ARMS = ("nf4", "bf16", "trl")
# Small: four bits, nothing kept that can be made again. Fast: bf16, sampling from a merged copy.
SETTINGS = {
    "nf4": (
        "model.quantization=nf4",
        "model.gradient_checkpointing=true",
        "ppo.sampling.merge=false",
        "ppo.micro_batch_size=4",
    ),
    "bf16": (),
}
PRESET = Path(__file__).with_name("gpu.toml")
Row = dict[str, Any]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    known = sorted(path.stem for path in SHAPES.glob("*.json"))
    parser.add_argument("--only", action="append", choices=known, help="a shape; may be repeated")
    parser.add_argument("--arm", action="append", choices=ARMS, help="an arm; may be repeated")
    parser.add_argument("--steps", type=int, default=4, help="PPO steps; the first one warms up")
    parser.add_argument("--seconds", type=float, default=900.0, help="most seconds of one run")
    parser.add_argument("--responses", type=int, default=32)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--trl", type=Path, help="a Python that has trl==1.12.0")
    parser.add_argument("--out", type=Path, default=Path(".bench-gpu"), help="models, results")
    parser.add_argument("--again", action="store_true", help="measure again what has a row")
    return parser.parse_args()


def ours(place: Path, arm: str, asked: argparse.Namespace) -> Row:
    """A run of our engine: seconds, tokens a second, peak bytes and their estimate by phase."""
    settings = {
        "policy": place / "model",
        "data.path": place / "prompts.jsonl",
        "data.max_prompt_tokens": asked.prompt_tokens,
        "reward.score": place / "reward",
        "device": asked.device,
        "ppo.steps": asked.steps,
        "ppo.batch_size": asked.responses,
        "ppo.sampling.max_new_tokens": asked.new_tokens,
    }
    overrides = [*(f"{name}={value}" for name, value in settings.items()), *SETTINGS[arm]]
    home = place / "home"
    home.mkdir(exist_ok=True)
    try:
        done = run_ours(home, PRESET, overrides, asked.seconds)
        expected, device = estimated(done.run)
    finally:
        # Checkpoints and outputs of large models are large.
        shutil.rmtree(home, ignore_errors=True)
    phases = done.phases()
    # On a GPU the allocator is measured, which has no part in the context.
    beside = device.process if device.kind == "cuda" else 0
    return {
        "seconds_per_step": done.seconds(),
        "seconds": phases,
        "tokens_per_second": _speeds(phases, asked),
        "bytes": done.memory(),
        "estimate": {phase.name: phase.bytes - beside for phase in expected.phases},
        "response_tokens": done.steps[-1].metrics["response_tokens"],
        "first_ratio_error": max(row.metrics["first_ratio_error"] for row in done.steps),
    }


def _speeds(phases: dict[str, float], asked: argparse.Namespace) -> dict[str, float]:
    """New tokens a second while sampling; tokens that pass through a role's model elsewhere."""
    whole = asked.prompt_tokens + asked.new_tokens
    each = {"generate": asked.new_tokens, "measure": whole, "update": 4 * whole}
    return {name: asked.responses * tokens / phases[name] for name, tokens in each.items()}


def peers(place: Path, asked: argparse.Namespace) -> Row:
    """A run of TRL on the same prompts, in bf16."""
    if asked.trl is None:
        raise Failed("no --trl PYTHON was given")
    given = (place / "model", place / "prompts.jsonl", asked.steps, "bf16")
    found = run_peer(asked.trl, [*given, asked.device, asked.new_tokens], asked.seconds)
    peak = int(found["peak_mib"] * 2**20)
    return {"seconds_per_step": found["seconds_per_step"], "bytes": {"whole run": peak}}


def measured(shape: str, arm: str, asked: argparse.Namespace) -> Row:
    """What an arm found, or why it found nothing: the other arms go on."""
    folder = (asked.out / "models").resolve()
    try:
        place = make(shape, folder, asked.responses, asked.prompt_tokens)
        return peers(place, asked) if arm == "trl" else ours(place, arm, asked)
    except Failed as fault:
        print(fault.output, file=sys.stderr)
        return {"failed": str(fault)}
    except (OSError, SpecError, SafetensorError) as fault:
        return {"failed": f"{type(fault).__name__}: {fault}"}


def machine(device: str) -> str:
    if device == "cpu":
        return f"CPU ({platform.machine()})"
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))
    except pynvml.NVMLError as error:
        sys.exit(f"bench-gpu needs a GPU: {error}; --device cpu tries the script out")


def main() -> None:
    asked = arguments()
    on = {"device": machine(asked.device), "torch": torch.__version__}
    work = {"responses": asked.responses, "prompt": asked.prompt_tokens, "new": asked.new_tokens}
    asked.out.mkdir(parents=True, exist_ok=True)
    results = (asked.out / "results.jsonl").resolve()
    lines = results.read_text().splitlines() if results.exists() else []
    rows: list[Row] = [json.loads(line) for line in lines]
    for shape, arm in product(asked.only or LARGE, asked.arm or ARMS):
        what = {"shape": shape, "arm": arm, **on, **work}
        known = [row for row in rows if what.items() <= row.items() and "failed" not in row]
        too_large = arm == "trl" and shape in LARGE and shape not in PEER
        if too_large or (known and not asked.again):
            continue
        row = what | {"steps": asked.steps} | measured(shape, arm, asked)
        rows = [other for other in rows if not what.items() <= other.items()] + [row]
        print(json.dumps(row), flush=True)
        results.write_text("".join(json.dumps(each) + "\n" for each in rows))
    print(table([row for row in rows if work.items() <= row.items()]))


if __name__ == "__main__":
    main()
