"""`make bench-gpu` from end to end at a tiny shape on the CPU: its rows, failures, table."""

import json
import sys
from pathlib import Path

import pytest

from tests.bench import gpu
from tests.bench.report import table

SMALL = ("--device", "cpu", "--only", "tiny", "--steps", "2", "--responses", "8")
LENGTHS = ("--prompt-tokens", "48", "--new-tokens", "8")


def bench(folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> list[dict[str, object]]:
    argv = ["gpu", *SMALL, *LENGTHS, "--out", str(folder), *more]
    monkeypatch.setattr(sys, "argv", argv)
    gpu.main()
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_every_arm_ends_with_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = ("--arm", "nf4", "--arm", "trl")
    found, failed = bench(tmp_path, monkeypatch, *arms, "--trl", str(tmp_path / "no-python"))
    assert failed["arm"] == "trl"
    assert "no-python" in str(failed["failed"])
    phases = {"generate", "judge", "measure", "update"}
    for figures in (found["bytes"], found["estimate"], found["seconds"]):
        assert phases <= figures.keys()  # type: ignore[attr-defined]
    assert found["response_tokens"] == 8
    assert found["first_ratio_error"] == 0.0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| tiny |") for line in lines) == 2

    # What has a figure stands; what failed is tried again, here for another reason.
    again, other = bench(tmp_path, monkeypatch, *arms)
    assert again == found
    assert "--trl" in str(other["failed"])


def test_the_table_says_which_goals_were_met() -> None:
    common = {"device": "a GPU", "torch": "2", "responses": 32, "prompt": 512, "new": 128}
    ours = {"tokens_per_second": {"generate": 1000.0}, "estimate": {"update": 2**31}}
    rows = [
        common
        | {"shape": shape, "arm": arm, "seconds_per_step": seconds, "bytes": {"update": size}}
        | (ours if arm != "trl" else {})
        for shape, arm, seconds, size in (
            ("qwen2.5-0.5b", "nf4", 3.0, 2**31),
            ("qwen2.5-0.5b", "bf16", 3.0, 2**33),
            ("qwen2.5-0.5b", "trl", 10.0, 2**34),
            ("qwen2.5-3b", "nf4", 9.0, 7 * 2**30),
        )
    ]
    rows.append(common | {"shape": "qwen2.5-1.5b", "arm": "trl", "failed": "CUDA out of memory."})
    lines = {tuple(line.split(" | ")[:2]): line for line in table(rows).splitlines()}
    small = lines["| qwen2.5-0.5b", "nf4"]
    assert "2.00 (2.00, +0%)" in small
    assert small.endswith("| met: at most 3 GiB |")
    assert "| 0.30 |" in lines["| qwen2.5-0.5b", "bf16"]
    assert lines["| qwen2.5-0.5b", "bf16"].endswith("| met: at most 0.4 of TRL's time |")
    assert lines["| qwen2.5-3b", "nf4"].endswith("| missed: at most 6 GiB |")
    assert "failed: CUDA out of memory." in lines["| qwen2.5-1.5b", "trl"]
