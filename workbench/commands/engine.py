"""Verbs that ask the engine for something at once: `check` and `export`."""

import json
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import tomlkit

from rlhf_engine.job.presets import Preset
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import resolve
from workbench.commands import common
from workbench.commands.common import Problem, Unusable, emit, json_option, say, set_option
from workbench.commands.starting import ready_preset
from workbench.commands.text import cells, paragraph, terminal_width


@click.command()
@common.with_home
@click.argument("preset")
@set_option
@json_option
@click.pass_context
def check(
    ctx: click.Context, home: Path, preset: str, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Check a preset's spec, model and data; starts nothing."""
    chosen = ready_preset(home, preset, overrides)
    say(f"{preset}: the spec is valid ({', '.join(spec.name for spec in chosen.stages)})")
    with tempfile.TemporaryDirectory(prefix="workbench-check-") as folder:
        files = write_specs(home, chosen, Path(folder))
        ctx.exit(_show_findings(home, files, as_json))


def write_specs(home: Path, preset: Preset, folder: Path) -> list[Path]:
    """Write each stage's spec, ready for an engine, into a folder; return the files."""
    files = []
    for index, spec in enumerate(preset.stages):
        file = folder / f"{index}-{spec.name}.toml"
        table = resolve(home, spec, spec.name).model_dump(exclude_none=True)
        file.write_text(tomlkit.dumps(table), encoding="utf-8")
        files.append(file)
    return files


def _show_findings(home: Path, files: Sequence[Path], as_json: bool) -> int:
    """Print the engine's findings as they come; return its exit code."""
    counts = Counter[str]()
    with subprocess.Popen(
        common.engine_command("rlhf_engine.check", *files),
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=os.environ | {"WORKBENCH_HOME": str(home)},
    ) as process:
        assert process.stdout is not None, "a pipe was asked for"
        for line in process.stdout:
            finding = json.loads(line)
            counts[finding["level"]] += 1
            if as_json:
                emit(finding)
                continue
            head = f"{finding['level']:<6}{finding['stage']:<10}"
            for text in paragraph(head, finding["what"], cells(head), max(60, terminal_width())):
                click.echo(text)
    if process.returncode not in (0, 1):
        raise Problem(f"the check itself ended with code {process.returncode}; see above")
    say(f"errors: {counts['error']}, warnings: {counts['warn']}")
    return process.returncode


@click.command()
@common.with_run
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--merge", is_flag=True, help="Write merged full-precision weights.")
@click.pass_context
def export(ctx: click.Context, run: RunDir, folder: Path, merge: bool) -> None:
    """Write a run's adapter or merged weights into DIR."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Unusable(f"{folder}: is not an empty folder; name a new one")
    options = ["--merge"] if merge else []
    command = common.engine_command("rlhf_engine.export", run.path, folder.resolve(), *options)
    ctx.exit(subprocess.run(command, check=False).returncode)
