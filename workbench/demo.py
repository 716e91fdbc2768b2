"""The verb `demo`: the whole pipeline on a small real model, with screens or without."""

from collections.abc import Sequence
from pathlib import Path

import click

from rlhf_engine.runs import launch
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.state import run_state
from workbench.commands.common import FAILED, say, set_option, with_home
from workbench.commands.follow import follow, tell_failures
from workbench.commands.screens import has_terminal, open_screens
from workbench.commands.starting import ready_preset
from workbench.table import table_of

PRESET = "demo"


@click.command()
@with_home
@click.option("--headless", is_flag=True, help="Plain progress lines instead of screens.")
@click.option("--seed", type=click.IntRange(min=0), help="Repeat it with another seed.")
@set_option
@click.pass_context
def demo(
    ctx: click.Context, home: Path, headless: bool, seed: int | None, overrides: tuple[str, ...]
) -> None:
    """The whole pipeline on a small real model.

    Opens the list of runs, where the six stages follow each other: open PPO's monitor and turn
    the KL coefficient there. Without a terminal, or with --headless, it prints progress lines and
    ends with a table.
    """
    seeded = (*overrides, f"seed={seed}") if seed is not None else overrides
    runs = launch.launch(home, ready_preset(home, PRESET, seeded))
    succeeded = _headless(runs) if headless or not has_terminal() else _on_screens(home, runs)
    if not succeeded:
        ctx.exit(FAILED)


def _headless(runs: Sequence[RunDir]) -> bool:
    say(f"{len(runs)} runs, one after the other; they go on if you leave (Ctrl+C)")
    try:
        states = follow(runs, say)
    except KeyboardInterrupt:
        _say_how_to_return(runs)
        raise
    if tell_failures(runs, states, say):
        return False
    _print_table(runs)
    return True


def _on_screens(home: Path, runs: Sequence[RunDir]) -> bool:
    open_screens(home)
    states = [run_state(run) for run in runs]
    if all(state.word == "done" for state in states):
        _print_table(runs)
        return True
    if any(state.ended and state.word != "done" for state in states):
        pairs = [(run, state) for run, state in zip(runs, states, strict=True) if state.ended]
        tell_failures([run for run, _ in pairs], [state for _, state in pairs], say)
        return False
    _say_how_to_return(runs)
    return True


def _print_table(runs: Sequence[RunDir]) -> None:
    for run in runs:
        if table := table_of(run):
            click.echo(table)


def _say_how_to_return(runs: Sequence[RunDir]) -> None:
    last = runs[-1].id
    say(
        "the pipeline goes on without this terminal\n"
        "  come back:  workbench\n"
        f"  the end:    workbench tail {last}\n"
        f"  the table:  workbench show {last}"
    )
