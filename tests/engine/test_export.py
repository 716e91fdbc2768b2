"""Outputs loaded by plain transformers and peft in a fresh process give the same numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlhf_engine.export import export
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.sections import Model
from rlhf_engine.model.base import load_base, resolve_source
from rlhf_engine.model.roles import Roles
from rlhf_engine.rl.logprobs import token_logprobs
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.state import run_state
from tests.engine.conftest import Lab

IDS = [1, 20, 40, 60, 80, 100, 120, 2]

LOAD = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
kind, base, folder, ids = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
cls = AutoModelForCausalLM if kind == "causal" else AutoModelForSequenceClassification
more = {} if kind == "causal" else {"num_labels": 1}
model = cls.from_pretrained(base, dtype=torch.float32, **more)
if folder != base:
    model = PeftModel.from_pretrained(model, folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
assert tokenizer.chat_template and tokenizer.pad_token != tokenizer.eos_token
model.config.pad_token_id = tokenizer.pad_token_id
x = torch.tensor([ids])
with torch.no_grad():
    logits = model.eval()(input_ids=x).logits
if kind == "causal":
    logits = logits[0, :-1].log_softmax(-1).gather(-1, x[0, 1:, None])
print(json.dumps(logits.flatten().tolist()))
"""


def outside(kind: str, base: str, folder: Path) -> list[float]:
    command = [sys.executable, "-c", LOAD, kind, base, str(folder), json.dumps(IDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


def inside(lab: Lab, run: RunDir, role: str) -> tuple[Roles, list[float]]:
    source = resolve_source(f"run:{run.id}", lab.home, print)
    assert source.adapter is not None
    roles = Roles(load_base(source, Model(dtype="fp32"), torch.device("cpu")))
    roles.add_from(role, source.adapter)
    ids = torch.tensor([IDS])
    with torch.no_grad():
        hidden = roles.hidden(role, ids)[0]
        if role == "reward":
            return roles, [float(roles.scalar(role, hidden[-1]))]
        head = roles.vocabulary_head.weight
        return roles, token_logprobs(hidden[:-1], head, ids[0, 1:]).logp.tolist()


def test_a_policy_adapter_and_its_merged_weights(lab: Lab, tmp_path: Path) -> None:
    run = lab.start("smoke", "ppo.steps=3", "ppo.optimizer.lr=0.05")
    assert lab.ended(run).word == "done", run_state(run).detail
    roles, expected = inside(lab, run, "policy")
    assert any(abs(p).max() > 1e-3 for p in roles.trained("policy"))
    export(run, tmp_path / "adapter", merge=False)
    assert outside("causal", roles.base.name, tmp_path / "adapter") == pytest.approx(
        expected, abs=1e-4
    )
    export(run, tmp_path / "merged", merge=True)
    merged = tmp_path / "merged"
    assert not (merged / "adapter_config.json").exists()
    assert outside("causal", str(merged), merged) == pytest.approx(expected, abs=1e-3)
    with pytest.raises(SpecError, match="not an empty folder"):
        export(run, merged, merge=True)


def test_a_reward_adapter_with_its_head(lab: Lab, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    row = {"prompt": "hello there", "chosen": "aeiou aeiou", "rejected": "xyz xyz"}
    pairs.write_text("".join(json.dumps(row | {"prompt": f"{n}"}) + "\n" for n in range(12)))
    preset = tmp_path / "reward.toml"
    preset.write_text(
        'name = "judge"\nstage = "reward"\npolicy = "builtin:tiny-llama"\ndevice = "cpu"\n'
        f'[model]\ndtype = "fp32"\n[data]\npath = "{pairs}"\n'
        "[reward.batches]\nbatch_size = 6\nepochs = 4\n[reward.optimizer]\nlr = 0.02\n"
    )
    run = lab.start(preset)
    assert lab.ended(run).word == "done", run_state(run).detail
    roles, expected = inside(lab, run, "reward")
    assert abs(expected[0]) > 1e-3
    export(run, tmp_path / "adapter", merge=False)
    assert outside("score", roles.base.name, tmp_path / "adapter") == pytest.approx(
        expected, abs=1e-4
    )
    export(run, tmp_path / "merged", merge=True)
    merged = tmp_path / "merged"
    assert outside("score", str(merged), merged) == pytest.approx(expected, abs=1e-3)
