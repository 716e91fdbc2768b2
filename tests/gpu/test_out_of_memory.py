"""An engine process that may use a part of a GPU: it goes on with the micro-batches that fit."""

from pathlib import Path

import pytest
import torch

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.state import run_state
from tests.engine.conftest import Lab
from tests.engine.test_out_of_memory import assert_redone, sft_preset


def done(lab: Lab, preset: Path, name: str, *overrides: str) -> RunDir:
    run = lab.start(preset, "device=cuda", *overrides, name=name)
    assert lab.ended(run).word == "done", run_state(run).detail
    return run


def peak(lab: Lab, run: RunDir) -> float:
    return max(max(step.memory.values()) for step in lab.steps(run))


# torch reads the variable when it is imported.
@pytest.mark.cold
def test_a_run_goes_on_with_the_micro_batch_that_fits(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = sft_preset(tmp_path)
    calm = done(lab, preset, "calm")
    small = done(lab, preset, "small", "sft.batches.micro_batch_size=8")
    room = (peak(lab, calm) + peak(lab, small)) / 2
    share = room / torch.cuda.get_device_properties(0).total_memory
    monkeypatch.setenv(
        "PYTORCH_ALLOC_CONF", f"expandable_segments:True,per_process_memory_fraction:{share:.6f}"
    )
    squeezed = done(lab, preset, "squeezed")
    assert_redone(lab, squeezed, calm)
    assert peak(lab, squeezed) <= room
