"""Verbs that start runs: `run` and `presets`."""

from collections.abc import Sequence
from pathlib import Path

import click

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import Preset, load_preset, own_presets, preset_files
from rlhf_engine.runs import launch
from rlhf_engine.runs.directory import RunDir
from workbench.commands.common import FAILED, emit, json_option, say, set_option, with_home
from workbench.commands.follow import follow, tell_failures
from workbench.commands.text import paragraph, terminal_width


def ready_preset(
    home: Path, name: str, overrides: tuple[str, ...], title: str | None = None
) -> Preset:
    """A preset that can be launched: valid, with a usable name, its input runs in place."""
    preset = load_preset(name, list(overrides), home)
    launch.ready(home, preset, title)
    return preset


@click.command()
@with_home
@click.argument("preset")
@set_option
@click.option("--name", help="Name of the run, or of the pipeline.")
@click.option("--wait", is_flag=True, help="Show progress until all runs have ended.")
@click.option(
    "--no-start",
    is_flag=True,
    help="Print the run's folder for `accelerate launch -m rlhf_engine FOLDER` on several GPUs.",
)
@click.pass_context
def run(
    ctx: click.Context,
    home: Path,
    preset: str,
    overrides: tuple[str, ...],
    name: str | None,
    wait: bool,
    no_start: bool,
) -> None:
    """Start a preset and print the id of each run.

    PRESET is a name of `workbench presets` or a TOML file of yours. The runs go on without
    this terminal: come back with `workbench attach RUN`.
    """
    chosen = ready_preset(home, preset, overrides, name)
    if no_start:
        for created in launch.create(home, chosen, name):
            click.echo(created.path)
        return
    tell_started(ctx, launch.launch(home, chosen, name), wait)


def tell_started(ctx: click.Context, runs: Sequence[RunDir], wait: bool) -> None:
    """Print the ids of new runs; show their progress until all have ended if asked to."""
    for started in runs:
        click.echo(started.id)
    if not wait:
        say(f"started; watch with: workbench attach {runs[-1].id}")
        return
    try:
        states = follow(runs, say)
    except KeyboardInterrupt:
        say(f"\nthe runs go on; come back with: workbench attach {runs[-1].id}")
        raise
    if tell_failures(runs, states, say):
        ctx.exit(FAILED)


@click.command()
@with_home
@json_option
def presets(home: Path, as_json: bool) -> None:
    """List the shipped presets and your own, which the launch form saves."""
    files, own = preset_files(home), own_presets(home)
    indent = 2 + max((len(name) for name in files), default=0)
    for name, path in files.items():
        try:
            preset = load_preset(name, home=home)
        except SpecError as error:
            say(f"{name} cannot be used: {error}")
            continue
        stages = [spec.stage for spec in preset.stages]
        if as_json:
            facts = {"name": name, "about": preset.about, "stages": stages}
            emit(facts | {"path": str(path), "own": name in own})
            continue
        about = f"(yours) {preset.about}" if name in own else preset.about
        for line in paragraph(name, about, indent, max(60, terminal_width())):
            click.echo(line)
