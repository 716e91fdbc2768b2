"""Runs on each rollout backend: a killed and resumed run equals one that was never disturbed."""

import pytest

from rlhf_engine.runs.launch import start_engine
from tests.engine.conftest import Lab

SMALL = (
    "ppo.steps=6",
    "ppo.batch_size=8",
    "ppo.micro_batch_size=4",
    "ppo.sampling.batch_size=4",
    "ppo.sampling.max_new_tokens=12",
    "checkpoints.every=2",
)


@pytest.mark.parametrize("backend", [pytest.param("continuous", marks=pytest.mark.slow), "static"])
def test_a_killed_run_repeats_itself(lab: Lab, backend: str) -> None:
    options = (*SMALL, f"ppo.sampling.backend={backend}")
    calm = lab.start("smoke", *options)
    assert lab.ended(calm).word == "done"
    killed = lab.start("smoke", *options)
    lab.at_step(killed, 3)
    lab.kill(killed)
    start_engine(killed)
    assert lab.ended(killed).word == "done"
    assert len(lab.steps(killed)) == 6
    assert lab.figures(killed) == lab.figures(calm)
    weights = [run.output / "adapter_model.safetensors" for run in (killed, calm)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
