"""The estimate of a mid-size model against what torch reserves, phase by phase."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from tests.bench.gpu import ours
from tests.bench.shapes import make_model

# 0.3 B parameters: large beside the allocator's pages and the libraries' workspaces.
SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "vocab_size": 32768,
}
CLOSE = 0.15


@pytest.mark.parametrize("arm", ["bf16", "nf4"])
def test_every_phase_is_estimated_within_15_percent(tmp_path: Path, arm: str) -> None:
    shape = tmp_path / "mid.json"
    shape.write_text(json.dumps(SHAPE))
    place = make_model(shape, tmp_path / "mid", prompts=32, prompt_tokens=512)
    asked = Namespace(
        device="cuda", steps=3, responses=32, prompt_tokens=512, new_tokens=128, seconds=600.0
    )
    row = ours(place, arm, asked)
    assert row["first_ratio_error"] == 0.0
    for phase in ("generate", "judge", "measure", "update"):
        found, expected = row["bytes"][phase], row["estimate"][phase]
        assert expected == pytest.approx(found, rel=CLOSE), f"{phase}: {row}"
