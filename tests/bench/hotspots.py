"""Where the time of a PPO update on the CPU goes: python -m tests.bench.hotspots [bf16 | fp32].

The work of `make bench` with a separate value role, in this process, two threads. Prints the
operators that take at least one per cent of the update, and the share of all matrix products:
what no saving elsewhere can go below.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from rlhf_engine.job.knobs import knob_values
from rlhf_engine.job.presets import load_preset
from rlhf_engine.stages.ppo_update import Updater
from tests.bench.ppo import PRESET, prepare, settings
from tests.stages.inputs import build

PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hotspots", description=__doc__)
    parser.add_argument("dtype", nargs="?", default="bf16", choices=("bf16", "fp32"))
    dtype = parser.parse_args().dtype
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        spec: Any = load_preset(str(PRESET), settings(folder, "separate", dtype, 2)).stages[0]
        stage, knobs = build(spec, folder), knob_values(spec)
        stage.step(1, knobs)
        recorder = profile(activities=[ProfilerActivity.CPU])
        plain = Updater.update

        def recorded(*given: Any) -> Any:
            with recorder:
                return plain(*given)

        Updater.update = recorded  # type: ignore[method-assign]
        stage.step(2, knobs)
    rows = [(row.key, row.self_cpu_time_total) for row in recorder.key_averages()]
    total = sum(time for _, time in rows)
    for key, time in sorted(rows, key=lambda row: -row[1]):
        if time >= total / 100:
            sys.stdout.write(f"{time / total:6.1%}  {key}\n")
    products = sum(time for key, time in rows if key in PRODUCTS)
    sys.stdout.write(f"{products / total:6.1%}  all matrix products of {total / 1e6:.1f} s\n")


if __name__ == "__main__":
    main()
