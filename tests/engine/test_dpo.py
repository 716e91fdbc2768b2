"""A dpo run that is steered, ended and handed on to other programs."""

import json
from pathlib import Path

import pytest

from rlhf_engine.export import export
from rlhf_engine.runs import inbox
from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.state import run_state
from tests.engine.conftest import Lab
from tests.engine.test_export import inside, outside
from tests.engine.test_live_control import acknowledged

PRESET = """
name = "pairs"
stage = "dpo"
policy = "builtin:tiny-llama"
device = "cpu"
threads = 1
[model]
dtype = "fp32"
[data]
path = "PAIRS"
[dpo]
sample_every = 5
sample_prompts = 2
[dpo.batches]
epochs = 400
batch_size = 4
[dpo.sampling]
max_new_tokens = 8
[dpo.optimizer]
lr = 0.01
"""


def test_beta_is_turned_while_it_trains_and_the_policy_speaks_the_same_elsewhere(
    lab: Lab, tmp_path: Path
) -> None:
    pairs, preset = tmp_path / "pairs.jsonl", tmp_path / "pairs.toml"
    sides = {"chosen": "aeiou aeiou", "rejected": "xyz xyz"}
    rows = [json.dumps({"prompt": f"say {n}", **sides}) for n in range(8)]
    pairs.write_text("\n".join(rows) + "\n")
    preset.write_text(PRESET.replace("PAIRS", str(pairs)))
    run = lab.start(preset)
    lab.at_step(run, 3)
    refused = acknowledged(lab, run, inbox.send(run.inbox, "set", {"knob": "beta", "value": 0}))
    assert refused.state == "rejected"
    assert "0 < beta <= 10" in refused.note
    at = acknowledged(lab, run, inbox.send(run.inbox, "set", {"knob": "beta", "value": 2.0})).step
    lab.at_step(run, at + 1)
    inbox.send(run.inbox, "stop")
    assert lab.ended(run).word == "stopped", run_state(run).detail
    steps = {row.step: row for row in lab.steps(run)}
    assert [steps[s].knobs["beta"] for s in (at - 1, at, at + 1)] == [0.1, 2.0, 2.0]
    assert steps[at].metrics["margin"] > 5 * steps[at - 1].metrics["margin"] > 0
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        assert not [event for event in reader.events() if event.level == "warn"]
        spoken = reader.samples(limit=100)
    assert {row.step for row in spoken} >= {1}
    assert all(len(row.sample.logp) == len(row.sample.tokens) > 0 for row in spoken)

    roles, expected = inside(lab, run, "policy")
    assert any(abs(p).max() > 1e-3 for p in roles.trained("policy"))
    export(run, tmp_path / "adapter", merge=False)
    assert outside("causal", roles.base.name, tmp_path / "adapter") == pytest.approx(
        expected, abs=1e-4
    )
    assert "nats per response" in (run.output / "README.md").read_text()
