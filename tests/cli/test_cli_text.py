"""The evaluation's table, the plain-text helpers, and the progress lines."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.job.presets import load_preset
from rlhf_engine.job.spec import EvaluateSpec
from rlhf_engine.runs.reader import Progress, StepRow
from rlhf_engine.runs.sample import printable
from rlhf_engine.runs.state import RunState
from workbench.commands.follow import Look, Narrator
from workbench.commands.text import cells, clip, number, wrap
from workbench.table import render

from .fakes import RESULT, make_run

TABLE = """\
60 held-out prompts, answered by each policy

                                 sft       ppo
gold                           +0.41     +1.73
score                          +0.05     +1.60
KL (nats per response)          0.00      4.46
response length (tokens)        31.2      20.0
ends itself                      82%      100%

difference, mean over prompts and its 95 % bootstrap interval
  ppo − sft  gold      +1.30  [+1.00, +1.60]
  ppo − sft  score     +0.10  [-1.00, +1.20]     not clear: holds 0

held-out accuracy of the reward model: 0.790

sample 1
  prompt  How do I keep basil alive on a windowsill through a dark winter?
  sft     Basil wants light and warmth, so put it at the brightest window that
          you have, and water it only when the soil is dry. It may help to
  ppo     Give it your brightest window and a little water. You will do fine! 😊"""


def test_the_table_stands_side_by_side() -> None:
    assert render(RESULT, 0.79) == TABLE  # type: ignore[arg-type]


def test_the_demo_compares_its_sft_ppo_and_dpo_policies_in_one_table() -> None:
    stages = load_preset("demo").stages
    assert [s.stage for s in stages] == ["sft", "collect", "reward", "ppo", "dpo", "evaluate"]
    last = stages[-1]
    assert isinstance(last, EvaluateSpec)
    policies = [name.removeprefix("stage:") for name in (last.policy, *last.evaluate.against)]
    assert policies == ["sft", "ppo", "dpo"]
    figures, difference = RESULT["rows"][1], RESULT["differences"][0]
    result: dict[str, Any] = RESULT | {
        "rows": [figures | {"policy": name} for name in policies],
        "differences": [difference | {"policy": name} for name in policies[1:]],
        "samples": [{"prompt": "Why?", "responses": {p: f"says {p}" for p in policies}}],
    }
    lines = render(result).splitlines()  # type: ignore[arg-type]
    assert lines[2].split() == policies
    assert ["gold", "+1.73", "+1.73", "+1.73"] in [line.split() for line in lines]
    assert all(any(f"{p} − sft  gold" in line for line in lines) for p in ("ppo", "dpo"))
    assert all(any(line.split()[:3] == [p, "says", p] for line in lines) for p in policies)


def test_the_table_fits_80_columns_with_many_policies_and_strange_text() -> None:
    row = RESULT["rows"][0]
    names = [f"20260102-030405-policy-{i}" for i in range(7)]
    result: dict[str, Any] = RESULT | {
        "rows": [row | {"policy": name, "gold": None, "kl": 12345.678} for name in names],
        "samples": [
            {"prompt": "漢字" * 60, "responses": dict.fromkeys(names, "\x1b[2J" + "x" * 200)}
        ],
    }
    text = render(result)  # type: ignore[arg-type]
    assert max(map(cells, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert text.count("KL (nats per response)") == 4
    assert "reward model" not in text


@given(st.text(), st.integers(min_value=2, max_value=40))
def test_wrapped_text_keeps_every_sign_and_the_width(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(cells(line) <= width for line in lines)
    assert cells(clip(text, width)) <= width
    assert "".join("".join(lines).split()) == "".join(printable(text).split())


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (float("nan"), "–"), (3, "3"), (0.123456, "0.1235"), (float("inf"), "inf")],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_progress_lines_are_few(home: Path) -> None:
    narrator = Narrator(make_run(home))

    def at(second: float, phase: str, step: int) -> str | None:
        row = StepRow(step, 1, step, 0.0, {"score": 1.25, "kl": 3.0}, {"kl_coef": 0.05}, {}, {})
        progress = Progress(1, "running", phase, 4, 32, "responses", "", 0.0)
        return narrator.line(Look(RunState("running", phase, step, 60), progress, row), second)

    assert at(1, "generate", 1) == (
        "  0:01  toy              running  generate 4/32 responses · step 1/60 · "
        "score 1.25  kl 3  kl_coef 0.05"
    )
    assert at(2, "generate", 1) is None
    assert at(3, "update", 1) is not None
    assert [at(3 + second, "generate", 1 + second) for second in range(1, 10)] == [None] * 9
    assert (at(75, "generate", 20) or "").startswith("  1:15")
    assert at(90, "generate", 20) is None
