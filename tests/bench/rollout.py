"""`make bench`: useful tokens a second of a ragged rollout, ours beside HF `generate` on PEFT.

Every arm does equal work: the same prompts, and row i ends at the same token in each, after
geometric lengths of about 30 tokens, at most 96. The arms run in turns in one process. Needs a
quiet machine. Prints one JSON object.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList

from rlhf_engine.data.batches import pad_left
from rlhf_engine.job.sections import Lora, Model
from rlhf_engine.model.base import Base, Source, load_base
from rlhf_engine.model.builtin import builtin_model
from rlhf_engine.model.roles import Roles
from rlhf_engine.rollout import RolloutBackend, backend, cached, continuous
from tests.bench.common import TOPICS

ROWS = 32
LONGEST = 96
MEAN = 30
REPEATS = 3
THREADS = 2
ENDS_HERE = 2.0


def stops() -> list[int]:
    """Tokens of each response, its end token included."""
    chance = torch.rand(ROWS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lengths = 1 + torch.floor(torch.log1p(-chance) / torch.log1p(torch.tensor(-1.0 / MEAN)))
    return [int(length) for length in lengths.clamp(max=LONGEST)]


def scheduled_noise(lengths: Sequence[int]) -> Tensor:
    """Noise that also says where a row ends: the backends hand it to `draw` unchanged."""
    noise = torch.rand((ROWS, LONGEST), generator=torch.Generator().manual_seed(1))
    for row, length in enumerate(lengths):
        noise[row, length - 1] = ENDS_HERE
    return noise


def scheduled_draw(eos: int) -> Callable[..., tuple[Tensor, Tensor]]:
    """The product's draw, with the end token where the schedule wants it and nowhere else."""

    def draw(logits: Tensor, noise: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        tokens, logp = backend.draw(logits, noise.clamp(max=0.999), temperature)
        tokens = torch.where(tokens == eos, eos + 1, tokens)
        return torch.where(noise == ENDS_HERE, eos, tokens), logp

    return draw


class Schedule(LogitsProcessor):
    """The same schedule for `generate`."""

    def __init__(self, lengths: Sequence[int], width: int, eos: int) -> None:
        self._lengths, self._width, self._eos = torch.tensor(lengths), width, eos

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        ends = self._lengths == input_ids.shape[1] - self._width + 1
        scores[:, self._eos] = -torch.inf
        scores[ends] = -torch.inf
        scores[ends, self._eos] = 0.0
        return scores


def questions(base: Base) -> list[list[int]]:
    topics = [topic.strip() for topic in TOPICS.split(",")]
    texts = [f"Write one sentence about {topics[row % len(topics)]}." for row in range(ROWS)]
    turns = [[{"role": "user", "content": text}] for text in texts]
    return [
        base.tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)
        for turn in turns
    ]


def ours(kind: type[RolloutBackend], roles: Roles, lengths: list[int]) -> Callable[[], None]:
    prompts, noise = questions(roles.base), scheduled_noise(lengths)
    sampler = kind(roles, ROWS, True)  # type: ignore[call-arg]

    def arm() -> None:
        found = sampler.sample("policy", prompts, noise, 1.0, lambda done, total: None)
        assert [len(response.tokens) for response in found] == lengths

    return arm


def peers(base: Base, lengths: list[int]) -> Callable[[], None]:
    """What a user of PEFT and `generate` gets: default attention, adapters not merged."""
    model = AutoModelForCausalLM.from_pretrained(base.name, dtype=torch.bfloat16)
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, config).eval()
    ids, mask = pad_left(questions(base), base.pad_id)
    eos = base.eos_ids[0]
    schedule = LogitsProcessorList([Schedule(lengths, ids.shape[1], eos)])

    def arm() -> None:
        found = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            top_p=1.0,
            temperature=1.0,
            max_new_tokens=LONGEST,
            eos_token_id=eos,
            pad_token_id=base.pad_id,
            logits_processor=schedule,
        )
        ends = (found[:, ids.shape[1] :] == eos).int().argmax(-1) + 1
        assert ends.tolist() == lengths

    return arm


def main() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    source = Source(
        str(builtin_model("smollm2-135m", lambda text: print(text, file=sys.stderr))), None
    )
    roles = Roles(load_base(source, Model(), torch.device("cpu")))
    roles.add_new("policy", Lora(), 0)
    lengths = stops()
    draw = scheduled_draw(roles.base.eos_ids[0])
    cached.draw = continuous.draw = draw  # type: ignore[attr-defined, assignment]
    arms = {
        "cached": ours(cached.CachedRollout, roles, lengths),
        "continuous": ours(continuous.ContinuousRollout, roles, lengths),
        "generate_peft": peers(roles.base, lengths),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for repeat in range(REPEATS + 1):
        for name, arm in arms.items():
            start = time.perf_counter()
            arm()
            # The first round only warms up.
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    report = {
        "useful_tokens": sum(lengths),
        "rows": ROWS,
        "threads": THREADS,
        "cores": os.cpu_count(),
        "seconds": medians,
        "useful_tokens_per_second": {name: sum(lengths) / s for name, s in medians.items()},
        "times_generate_peft": {name: medians["generate_peft"] / s for name, s in medians.items()},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
