"""SFT and the reward model against plain transformers and PEFT, one row at a time."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from rlhf_engine.job.knobs import knob_values
from rlhf_engine.job.spec import Reward, Sft
from tests.stages.by_hand import Plain
from tests.stages.inputs import Inputs, build, make_inputs, make_spec, same_weights, weights
from tests.tiny import KINDS

# All rows in every step, so that their order does not matter.
BATCHES = {"batch_size": 6, "micro_batch_size": 4, "eval_every": 0}


class Tuned:
    """A plain model with AdamW, its gradient shortened by hand."""

    def __init__(self, plain: Plain, spec: Sft | Reward) -> None:
        self.plain = plain
        self._longest = spec.optimizer.max_grad_norm
        self._adam = torch.optim.AdamW(
            plain.trained,
            lr=spec.optimizer.lr,
            weight_decay=spec.optimizer.weight_decay,
            foreach=False,
        )

    def descend(self, loss: Tensor) -> float:
        """One step; the gradient's length before."""
        loss.backward()
        grads = [p.grad for p in self.plain.trained if p.grad is not None]
        norm = math.sqrt(sum(float(g.double().pow(2).sum()) for g in grads))
        for grad in grads:
            grad.mul_(min(1.0, self._longest / (norm + 1e-6)))
        self._adam.step()
        self._adam.zero_grad()
        return norm


def rows(inputs: Inputs) -> list[dict[str, str]]:
    return [json.loads(line) for line in inputs.rows.read_text().splitlines()]


def encoded(inputs: Inputs, prompt: str, answer: str) -> tuple[list[int], int]:
    """Tokens of a conversation up to its end token, and how many of them are the prompt."""
    tokenizer = AutoTokenizer.from_pretrained(inputs.base)
    asked, said = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (f"<turn>u:{prompt}</s><turn>a:", f"{answer}</s>")
    )
    return asked + said, len(asked)


@pytest.mark.parametrize("kind", KINDS)
def test_sft(tmp_path: Path, kind: str) -> None:
    inputs = make_inputs(tmp_path, kind)
    spec = make_spec("sft", inputs, batches=BATCHES)
    stage = build(spec, tmp_path)
    tuned = Tuned(Plain(inputs.base, inputs.policy), spec.sft)
    data = [encoded(inputs, row["prompt"], row["chosen"]) for row in rows(inputs)]
    for step in (1, 2, 3):
        logps, right = [], []
        for ids, asked in data:
            for place in range(asked, len(ids)):
                logits = tuned.plain(ids[:place])
                logps.append(logits.log_softmax(-1)[ids[place]])
                right.append(float(int(logits.argmax()) == ids[place]))
        loss = -torch.stack(logps).mean()
        found = stage.step(step, knob_values(spec)).metrics
        assert found["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
        assert found["token_accuracy"] == pytest.approx(sum(right) / len(right))
        assert found["tokens"] == len(right)
        assert found["grad_norm"] == pytest.approx(tuned.descend(loss), rel=1e-4)
        ours = {name.removeprefix("policy."): tensor for name, tensor in weights(stage).items()}
        same_weights(ours, tuned.plain.weights())


@pytest.mark.parametrize("kind", KINDS)
def test_reward(tmp_path: Path, kind: str) -> None:
    """A reward run that goes on from a reward adapter, head included."""
    inputs = make_inputs(tmp_path, kind)
    spec = make_spec("reward", inputs, policy=inputs.reward, batches=BATCHES, centre_coef=0.1)
    stage = build(spec, tmp_path)
    tuned = Tuned(Plain(inputs.base, inputs.reward, head=True), spec.reward)
    data = [
        [encoded(inputs, row["prompt"], row[side])[0] for side in ("chosen", "rejected")]
        for row in rows(inputs)
    ]
    for step in (1, 2, 3):
        scores = [(tuned.plain(chosen), tuned.plain(rejected)) for chosen, rejected in data]
        parts = [
            -torch.log(torch.sigmoid(chosen - rejected)) + 0.1 * (chosen + rejected) ** 2
            for chosen, rejected in scores
        ]
        loss = torch.stack(parts).mean()
        gaps = [float((chosen - rejected).detach()) for chosen, rejected in scores]
        found = stage.step(step, knob_values(spec)).metrics
        assert found["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
        assert found["accuracy"] == sum(gap > 0 for gap in gaps) / len(gaps)
        assert found["margin"] == pytest.approx(sum(gaps) / len(gaps), rel=1e-4, abs=1e-5)
        assert found["grad_norm"] == pytest.approx(tuned.descend(loss), rel=1e-4)
        ours = {name.removeprefix("reward."): tensor for name, tensor in weights(stage).items()}
        same_weights(ours, tuned.plain.weights())
