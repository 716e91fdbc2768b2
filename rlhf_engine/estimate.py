"""`python -m rlhf_engine.estimate SPEC.toml ...`: the numbers that memory is estimated from.

Prints one JSON object a stage: {"stage", "on": "cpu", "device": {...}, "shape": {...}}, or
{"stage", "error"}. A stage may start from one that comes before it.
"""

import json
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import psutil
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

import rlhf_engine.work  # noqa: F401 -- what a run imports is a part of what it takes
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.estimate import sampling_of
from rlhf_engine.job.footprint import Device, Shape
from rlhf_engine.job.presets import parse_spec
from rlhf_engine.job.sections import Lora, Optimizer
from rlhf_engine.job.spec import CollectSpec, EvaluateSpec, PpoSpec, RewardSpec, SftSpec, Spec
from rlhf_engine.model.base import DTYPES, Base, resolve_source
from rlhf_engine.model.precision import product_dtype
from rlhf_engine.model.roles import Roles
from rlhf_engine.model.shape import Adapters, lora_of, read_shape
from rlhf_engine.optimizer import AdapterOptimizer
from rlhf_engine.rl.logprobs import token_logprobs
from rlhf_engine.rollout import CachedRollout
from rlhf_engine.runs.directory import RunNotFound, find_run, home_folder
from rlhf_engine.waiting import device_name

# What a CUDA context and the kernels loaded into it take of the device's memory before the first
# tensor: 0.4 to 0.6 GiB by card and driver.
CUDA_CONTEXT = 512 * 2**20
# What torch gives cuBLAS to work in, for each thread and stream (parseChosenWorkspaceSize), and the
# major compute capabilities of Hopper and Blackwell, which get more.
WORKSPACE, LARGE_WORKSPACE = 8_519_680, 32 * 2**20
LARGE_WORKSPACE_CARDS = (9, 10, 12)
# oneDNN's cache holds so many kernels; a length of the cache needs two, for scores and for values.
KERNELS = 1024


@dataclass(frozen=True)
class Origin:
    """Where a policy or judge comes from: the base, and the adapter on it, if there is one."""

    base: str
    lora: Lora | None


def origin(source: str, home: Path, earlier: Mapping[str, Spec]) -> Origin:
    """Follow runs and stages, finished or not, back to a base model.

    Raises SpecError or RunNotFound if the trail ends.
    """
    if source.startswith("stage:"):
        return _made_by(earlier[source.removeprefix("stage:")], home, earlier)
    if source.startswith("run:"):
        run = find_run(home, source.removeprefix("run:"))
        if not (run.output / "adapter_config.json").is_file():
            return _made_by(run.spec(), home, earlier)
    found = resolve_source(source, home, lambda text: print(text, file=sys.stderr))  # noqa: T201
    return Origin(found.base, lora_of(found.adapter) if found.adapter else None)


def _made_by(spec: Spec, home: Path, earlier: Mapping[str, Spec]) -> Origin:
    start = origin(spec.policy, home, earlier)
    if start.lora is None and isinstance(spec, SftSpec | RewardSpec | PpoSpec):
        return Origin(start.base, spec.lora)
    return start


def shape_of(spec: Spec, home: Path, earlier: Mapping[str, Spec]) -> Shape:
    """The numbers of a spec's model and adapters; `earlier` are the stages before it."""
    start = origin(spec.policy, home, earlier)
    made = _made_by(spec, home, earlier)
    reward, gold, against = None, [], []
    if isinstance(spec, CollectSpec | PpoSpec | EvaluateSpec):
        reward = _learned(spec.reward.score, home, earlier)
        watched = dict.fromkeys(s for s in spec.reward.gold if s != spec.reward.score)
        gold = [lora for s in watched if (lora := _learned(s, home, earlier)) is not None]
    if isinstance(spec, EvaluateSpec):
        others = [origin(source, home, earlier).lora for source in spec.evaluate.against]
        against = [lora for lora in others if lora is not None]
    adapters = Adapters(made.lora, start.lora is not None, reward, tuple(gold), tuple(against))
    return read_shape(start.base, spec.model, adapters)


def _learned(source: str, home: Path, earlier: Mapping[str, Spec]) -> Lora | None:
    """The adapter of a judge, if it is a learned one."""
    if source.startswith(("stage:", "run:")) or Path(source).is_dir():
        return origin(source, home, earlier).lora
    return None


def device_of(spec: Spec) -> Device:
    """The device a spec runs on, and what the engine takes there before it loads a model."""
    name = device_name(spec.device)
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            return Device("cuda", CUDA_CONTEXT)
        card = torch.cuda.get_device_properties(name)
        workspace = LARGE_WORKSPACE if card.major in LARGE_WORKSPACE_CARDS else WORKSPACE
        return Device("cuda", CUDA_CONTEXT, memory=card.total_memory, workspace=workspace)
    sampling = sampling_of(spec)
    dtype = DTYPES[spec.model.dtype]
    _exercise(product_dtype(dtype, torch.device("cpu")), sampling.max_new_tokens if sampling else 0)
    widens = product_dtype(dtype, torch.device("cpu")) != dtype
    return Device("cpu", psutil.Process().memory_info().rss, widens)


def _exercise(dtype: torch.dtype, new_tokens: int) -> None:
    """Sample and learn once with a model of almost no size, so that what a run uses is in memory:
    the code of its kernels, and those that oneDNN writes and keeps for each length it meets."""
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager")
    model.requires_grad_(False).eval()
    roles = Roles(Base("", model, cast(Any, None), (-1,), 0))
    roles.add_new("policy", Lora(), seed=0)
    roles.freeze("policy")
    ids = torch.zeros((4, 16), dtype=torch.long)
    draws = torch.full((len(ids), min(new_tokens, KERNELS // 2)), 0.5)
    sampler = CachedRollout(roles, len(ids), merge=True)
    sampler.sample("policy", ids.tolist(), draws, 1.0, lambda *_: None)
    hidden = roles.hidden("policy", ids).flatten(0, 1)
    token_logprobs(hidden, roles.vocabulary_head.weight, ids.flatten()).logp.sum().backward()
    AdapterOptimizer(Optimizer(), [roles.trained("policy")]).update(0.0, 1.0)


def main() -> int:
    os.umask(0o077)
    home, failed = home_folder(), False
    earlier: dict[str, Spec] = {}
    devices: dict[tuple[str, str, Any], Device] = {}
    for path in sys.argv[1:]:
        spec = parse_spec(tomllib.loads(Path(path).read_text(encoding="utf-8")), Path(path).name)
        answer: dict[str, Any] = {"stage": spec.name}
        try:
            place = device_name(spec.device), spec.model.dtype, sampling_of(spec)
            if place not in devices:
                devices[place] = device_of(spec)
            answer |= {"on": place[0], "device": asdict(devices[place])}
            answer["shape"] = asdict(shape_of(spec, home, earlier))
        except (SpecError, RunNotFound) as error:
            failed, answer = True, {"stage": spec.name, "error": str(error)}
        earlier[spec.name] = spec
        print(json.dumps(answer), flush=True)  # noqa: T201
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
