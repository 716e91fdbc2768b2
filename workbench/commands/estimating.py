"""The verb `estimate`: what memory a preset will take, by phase and part, before it starts."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click

from rlhf_engine.job.estimate import Estimate
from rlhf_engine.job.estimate import estimate as estimated
from rlhf_engine.job.footprint import Device, Shape
from rlhf_engine.job.presets import Preset
from rlhf_engine.job.remedies import COUNT, Saving, savings
from workbench.commands import common
from workbench.commands.common import Problem, Unusable, emit, json_option, set_option
from workbench.commands.engine import write_specs
from workbench.commands.starting import ready_preset
from workbench.commands.text import GIB, Cell, gib, grid
from workbench.doctor import free_memory

MIB = 2**20
# From here on a table is in GiB: its small parts still show.
LARGE = 8 * GIB


@click.command()
@common.with_home
@click.argument("preset")
@set_option
@json_option
def estimate(home: Path, preset: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Estimate a preset's peak memory by phase and part; loads no weights.

    Every sequence counts at the longest that the spec allows (data.max_prompt_tokens,
    sampling.max_new_tokens, data.max_tokens): shorter data takes less.
    """
    chosen = ready_preset(home, preset, overrides)
    for spec, answer in zip(chosen.stages, _numbers(home, chosen), strict=True):
        shape, device = Shape(**answer["shape"]), Device(**answer["device"])
        found = estimated(spec, shape, device)
        free = free_memory(answer["on"])
        cheaper = savings(spec, shape, device)
        if as_json:
            emit(_record(spec.name, answer["on"], found, free, cheaper))
        else:
            _show(spec.name, answer["on"], found, free, cheaper)


def _numbers(home: Path, preset: Preset) -> list[dict[str, Any]]:
    """Shape and device of each stage, read by the engine."""
    with tempfile.TemporaryDirectory(prefix="workbench-estimate-") as folder:
        files = write_specs(home, preset, Path(folder))
        done = subprocess.run(
            common.engine_command("rlhf_engine.estimate", *files),
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=os.environ | {"WORKBENCH_HOME": str(home)},
            check=False,
        )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for answer in answers:
        if "error" in answer:
            raise Unusable(f"{answer['stage']}: {answer['error']}")
    if done.returncode:
        raise Problem(f"the estimate itself ended with code {done.returncode}; see above")
    return answers


def _record(
    stage: str, on: str, found: Estimate, free: int, cheaper: list[Saving]
) -> dict[str, Any]:
    return {
        "stage": stage,
        "device": on,
        "phases": {phase.name: dict(phase.parts) for phase in found.phases},
        "peak": {"phase": found.peak.name, "bytes": found.peak.bytes},
        "free": free,
        "savings": [vars(saving) for saving in cheaper],
    }


def _show(stage: str, on: str, found: Estimate, free: int, cheaper: list[Saving]) -> None:
    peak = found.peak
    unit, name, digits = (GIB, "GiB", 2) if peak.bytes >= LARGE else (MIB, "MiB", None)

    def amount(size: int | None) -> Cell:
        return None if size is None else round(size / unit, digits)

    parts = list(dict.fromkeys(part for phase in found.phases for part in phase.parts))
    rows: list[list[Cell]] = [
        [part, *(amount(phase.parts.get(part)) for phase in found.phases)] for part in parts
    ]
    rows.append(["total", *(amount(phase.bytes) for phase in found.phases)])
    click.echo(f"{stage}: peak {gib(peak.bytes)} in {peak.name}; {gib(free)} free on {on} now")
    for line in grid([name, *(phase.name for phase in found.phases)], rows):
        click.echo(f"  {line}")
    if peak.bytes > free and cheaper:
        click.echo("  It does not fit. Cheapest changes:")
        for saving in cheaper[:COUNT]:
            click.echo(f"    --set {saving.setting}  {saving.price}, saves {gib(saving.bytes)}")
    click.echo()
