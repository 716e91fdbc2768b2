"""Models of published shapes with random weights, and what a PPO run needs beside them.

A shape is the config that its publisher ships. Weights are written shard by shard and never held
together, so that an 8B model takes its disk and little memory.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from rlhf_engine.job.sections import Lora
from rlhf_engine.model.base import Base
from rlhf_engine.model.builtin import byte_tokenizer
from rlhf_engine.model.roles import Roles
from tests.bench.common import TOPICS

SHAPES = Path(__file__).with_name("shapes")
SHARD = 4 * 2**30
# Random numbers that are written again and again: a prime count, so that no two rows are equal.
NUMBERS = 16_777_213


def make(name: str, folder: Path, prompts: int, prompt_tokens: int) -> Path:
    """All that a run at a shape of this repository reads; the folder that it is in."""
    return make_model(SHAPES / f"{name}.json", folder / name, prompts, prompt_tokens)


def make_model(shape: Path, place: Path, prompts: int, prompt_tokens: int) -> Path:
    """Write the model unless it is there, a reward adapter on it, and prompts of one length."""
    model = place / "model"
    if not (model / "complete").is_file():
        model.mkdir(parents=True, exist_ok=True)
        _write_model(shape, model)
        (model / "complete").touch()
    write_reward(model, place / "reward")
    rows = [{"prompt": text} for text in _texts(prompts, prompt_tokens)]
    (place / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def _write_model(shape: Path, folder: Path) -> None:
    config = AutoConfig.for_model(**json.loads(shape.read_text()))
    tokenizer = byte_tokenizer()
    for token in ("bos", "eos", "pad"):
        setattr(config, f"{token}_token_id", getattr(tokenizer, f"{token}_token_id"))
    config.dtype = torch.bfloat16
    index: dict[str, str] = {}
    size = 0
    for number, shard in enumerate(_shards(_hollow(config))):
        file = f"model-{number:05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(shard, file)
        size += sum(tensor.nbytes for tensor in shard.values())
    table = {"metadata": {"total_size": size}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(table))
    config.save_pretrained(folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _hollow(config: AutoConfig) -> nn.Module:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def _shards(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    numbers = torch.randn(NUMBERS, generator=torch.Generator().manual_seed(0)).mul_(0.02)
    numbers = numbers.to(torch.bfloat16)
    shard: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        shard[name] = _values(name, parameter.shape, numbers)
        if sum(tensor.nbytes for tensor in shard.values()) >= SHARD:
            yield shard
            shard = {}
    if shard:
        yield shard


def _values(name: str, shape: torch.Size, numbers: Tensor) -> Tensor:
    if len(shape) == 1:
        fill = 0.0 if name.endswith("bias") else 1.0
        return torch.full(shape, fill, dtype=numbers.dtype)
    count = shape.numel()
    return numbers.repeat(-(-count // len(numbers)))[:count].view(shape)


def write_reward(model: Path, folder: Path) -> None:
    """What a reward run leaves: an adapter and a head, neither of them zero."""
    hollow = _hollow(AutoConfig.from_pretrained(model))
    tokenizer = AutoTokenizer.from_pretrained(model)
    roles = Roles(Base(str(model), hollow, tokenizer, (), 0))
    roles.add_new("reward", Lora(), seed=0)
    shapes = {name: weight.shape for name, weight in roles.adapter("reward").items()}
    shapes["score.weight"] = torch.Size((1, roles.hidden_size))
    generator = torch.Generator().manual_seed(1)
    weights = {
        f"base_model.model.{name}": 0.01 * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }
    config = copy.copy(roles.configs["reward"])
    config.base_model_name_or_path = str(model)
    config.task_type, config.modules_to_save = "SEQ_CLS", ["score"]
    config.save_pretrained(str(folder))
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    roles.base.tokenizer.save_pretrained(folder)


def _texts(count: int, tokens: int) -> Iterator[str]:
    """Texts that are each so many tokens long once they are rendered as a chat."""
    tokenizer = byte_tokenizer()
    turn = [{"role": "user", "content": ""}]
    around = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)
    topics = [topic.strip() for topic in TOPICS.split(",")]
    for number in range(count):
        text = f"{number}: write about {topics[number % len(topics)]}, "
        length = tokens - len(around)
        yield (text * (length // len(text) + 1))[:length]
