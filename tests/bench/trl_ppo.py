"""One arm of `make bench` and `make bench-gpu`: TRL 1.12.0's PPOTrainer, the last that there is.

Runs in an environment of its own with `trl==1.12.0`:
python trl_ppo.py MODEL PROMPTS STEPS DTYPE [DEVICE NEW_TOKENS]. Prints one JSON line. The same
work as ppo.toml: all prompts of the file, 32 new tokens each without early stop, 4 epochs of 4
minibatches, LoRA r = 16 on all linear layers of the policy. TRL's reward and value models are
models of their own, its value model is trained in full.
"""

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset
from peft import LoraConfig, TaskType
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.stamps.append(time.perf_counter())


class Memory:
    """MiB on a device: of the process on the CPU, of torch's allocator on CUDA."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"

    def now(self) -> float:
        if self._cuda:
            return torch.cuda.memory_reserved() / 2**20
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def peak(self) -> float:
        if self._cuda:
            return torch.cuda.max_memory_reserved() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    model, prompts, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[sys.argv[4]]
    device, new_tokens = sys.argv[5:] or ("cpu", "32")
    if device == "cpu":
        torch.set_num_threads(2)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    texts = [json.loads(line)["prompt"] for line in prompts.read_text().splitlines()]
    turns = [[{"role": "user", "content": text}] for text in texts]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    rows = [{"input_ids": tokenizer(text)["input_ids"]} for text in rendered]
    data = Dataset.from_list(rows * (steps + 1))
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    heads = [
        AutoModelForSequenceClassification.from_pretrained(model, num_labels=1, dtype=dtype)
        for _ in range(2)
    ]
    for each in (policy, *heads):
        each.config.pad_token_id = tokenizer.pad_token_id
    policy.generation_config.eos_token_id = None
    policy.generation_config.pad_token_id = tokenizer.pad_token_id
    config = PPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=len(rows),
        gradient_accumulation_steps=1,
        num_mini_batches=4,
        num_ppo_epochs=4,
        total_episodes=len(rows) * steps,
        response_length=int(new_tokens),
        local_rollout_forward_batch_size=len(rows),
        learning_rate=1e-5,
        num_sample_generations=0,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        bf16=False,
        use_cpu=device == "cpu",
        temperature=1.0,
        kl_coef=0.05,
        gradient_checkpointing=False,
    )
    lora = LoraConfig(
        r=16,
        lora_alpha=32,
        task_type=TaskType.CAUSAL_LM,
        target_modules="all-linear",
        lora_dropout=0.0,
    )
    clock = Clock()
    trainer = PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=policy,
        ref_model=None,
        reward_model=heads[0],
        value_model=heads[1],
        train_dataset=data,
        eval_dataset=data.select(range(2)),
        peft_config=lora,
        callbacks=[clock],
    )
    memory = Memory(device)
    loaded = memory.now()
    start = time.perf_counter()
    trainer.train()
    seconds = [b - a for a, b in zip([start, *clock.stamps], clock.stamps, strict=False)]
    peak = memory.peak()
    found = {
        "seconds_per_step": statistics.median(seconds[1:]),
        "loaded_mib": loaded,
        "peak_mib": peak,
        "added_mib": peak - loaded,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
