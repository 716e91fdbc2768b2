"""Estimated memory beside what real engine processes took, phase by phase, at two sizes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rlhf_engine.model.builtin import byte_tokenizer
from tests.engine.conftest import Lab

TOLERANCE = 0.15
# Vocabulary large enough that a random model hardly ever ends a response.
VOCABULARY = 8000
SIZES = {
    "10M": {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6},
    "60M": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 16},
}
HEAD = """
stage = "{stage}"
policy = "{model}"
device = "cpu"
threads = 2
[model]
dtype = "{dtype}"
quantization = "{quantization}"
[data]
path = "{rows}"
max_tokens = 192
max_prompt_tokens = 128
[lora]
r = 8
"""
PPO = """
[reward]
score = "rule:brevity"
[ppo]
steps = 2
batch_size = 16
minibatches = 2
epochs = 1
micro_batch_size = 8
[ppo.sampling]
max_new_tokens = 64
"""
SFT = """
[sft.batches]
max_steps = 2
batch_size = 16
micro_batch_size = 8
"""


def save_model(folder: Path, size: str) -> Path:
    torch.manual_seed(0)
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **heads, **SIZES[size]))
    tokenizer = byte_tokenizer()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_preset(folder: Path, size: str, stage: str, dtype: str, quantization: str) -> Path:
    """A stage whose sequences are all as long as its spec allows."""
    row = {"prompt": "long " * 60, "completion": "and longer " * 40}
    rows = folder / "rows.jsonl"
    rows.write_text((json.dumps(row) + "\n") * 32)
    model = save_model(folder / "model", size)
    head = HEAD.format(stage=stage, model=model, dtype=dtype, rows=rows, quantization=quantization)
    preset = folder / "preset.toml"
    preset.write_text(head + (PPO if stage == "ppo" else SFT))
    return preset


def estimated(home: Path, preset: Path) -> dict[str, int]:
    """Bytes by phase, as `workbench estimate` says."""
    program = "from workbench.cli import main; main()"
    command = [sys.executable, "-c", program, "--home", str(home), "estimate"]
    done = subprocess.run([*command, str(preset), "--json"], stdout=subprocess.PIPE, check=True)
    return {
        phase: sum(parts.values()) for phase, parts in json.loads(done.stdout)["phases"].items()
    }


CASES = [
    pytest.param("10M", "ppo", "fp32", "none", id="10M-ppo-fp32"),
    pytest.param("60M", "ppo", "fp32", "none", id="60M-ppo-fp32", marks=pytest.mark.slow),
    pytest.param("60M", "sft", "fp32", "none", id="60M-sft-fp32", marks=pytest.mark.slow),
    pytest.param("60M", "ppo", "bf16", "none", id="60M-ppo-bf16", marks=pytest.mark.slow),
    pytest.param("60M", "ppo", "fp32", "nf4", id="60M-ppo-nf4", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("size", "stage", "dtype", "quantization"), CASES)
def test_estimates_are_near_what_is_resident(
    lab: Lab, tmp_path: Path, size: str, stage: str, dtype: str, quantization: str
) -> None:
    preset = write_preset(tmp_path, size, stage, dtype, quantization)
    expected = estimated(lab.home, preset)
    run = lab.start(preset)
    assert lab.ended(run).word == "done"
    measured = lab.steps(run)[-1].memory
    peak = max(measured, key=lambda name: measured[name])
    assert expected[peak] == max(expected.values()), "the phase that takes most"
    assert expected[peak] == pytest.approx(measured[peak], rel=TOLERANCE)
