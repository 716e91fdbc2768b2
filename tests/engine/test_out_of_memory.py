"""A real engine process whose address space is too small for its micro-batches."""

import json
import resource
from pathlib import Path

import pytest

from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.lock import owner
from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.state import run_state
from tests.engine.conftest import Lab

# Attention of a micro-batch of 32 rows of 512 tokens takes 4 heads x 32 x 512 x 512 fp32 numbers,
# 134 MB, several times a layer: far more than the room that is left.
ROOM = 250_000_000

SFT = """
stage = "sft"
policy = "builtin:tiny-llama"
device = "cpu"
threads = 1
[model]
dtype = "fp32"
[data]
path = "ROWS"
max_tokens = 512
[lora]
r = 4
[sft.batches]
batch_size = 32
micro_batch_size = 32
max_steps = 3
[sft.optimizer]
lr = 0.01
"""


def squeeze(run: RunDir) -> None:
    """Leave the engine so much more address space than it has now."""
    pid = json.loads(owner(run.lock))["pid"]
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    size = next(int(line.split()[1]) for line in status if line.startswith("VmSize:")) * 1024
    resource.prlimit(pid, resource.RLIMIT_AS, (size + ROOM, size + ROOM))


def sft_preset(folder: Path) -> Path:
    rows = folder / "rows.jsonl"
    texts = [{"prompt": f"say {i}", "completion": f"{i} and on " * 60} for i in range(32)]
    rows.write_text("\n".join(json.dumps(row) for row in texts))
    preset = folder / "sft.toml"
    preset.write_text(SFT.replace("ROWS", str(rows)))
    return preset


def assert_redone(lab: Lab, run: RunDir, calm: RunDir) -> None:
    """The run's first step did not fit, and its figures are those of the calm one."""
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        warnings = [event.text for event in reader.events() if event.level == "warn"]
    assert warnings, "memory ran out"
    assert warnings[0] == (
        "out of memory with micro_batch_size 32: train of step 1 redone with 16; set "
        "sft.batches.micro_batch_size=16 to start with it"
    )
    assert all("redone with" in text for text in warnings)
    for (_, found), (_, expected) in zip(
        lab.figures(run).items(), lab.figures(calm).items(), strict=True
    ):
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process")
@pytest.mark.cold
def test_a_run_goes_on_with_the_micro_batch_that_fits(lab: Lab, tmp_path: Path) -> None:
    preset = sft_preset(tmp_path)
    calm = lab.start(preset, name="calm")
    assert lab.ended(calm).word == "done", run_state(calm).detail

    run = lab.start(preset, name="squeezed")
    lab.until(lambda: run.store.exists(), "the store")
    inbox.send(run.inbox, "pause")
    lab.until(lambda: run_state(run).word == "paused", "the pause")
    squeeze(run)
    inbox.send(run.inbox, "resume")
    assert lab.ended(run).word == "done", run_state(run).detail
    assert_redone(lab, run, calm)
