"""Verbs that make a run from another one: `fork` and `replay`."""

import click

from rlhf_engine.runs import lineage
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.reader import StepRow, StoreReader
from workbench.commands.common import FAILED, Problem, from_store, set_option, with_run
from workbench.commands.starting import tell_started

name_option = click.option("--name", help="Name of the new run.")


@click.command()
@with_run
@click.option(
    "--step", type=click.IntRange(min=1), metavar="N",
    help="The checkpoint to start from; else the newest.",
)  # fmt: skip
@set_option
@name_option
@click.option("--wait", is_flag=True, help="Show progress until the run has ended.")
@click.pass_context
def fork(
    ctx: click.Context,
    run: RunDir,
    step: int | None,
    overrides: tuple[str, ...],
    name: str | None,
    wait: bool,
) -> None:
    """Start a new run from a checkpoint, with changed fields."""
    tell_started(ctx, [lineage.fork(run, step, overrides, name)], wait)


@click.command()
@with_run
@name_option
@click.option("--wait", is_flag=True, help="Show progress until its end, and compare the two.")
@click.pass_context
def replay(ctx: click.Context, run: RunDir, name: str | None, wait: bool) -> None:
    """Do a run again, with its live changes at their steps.

    On the CPU both give the same figures, bit for bit.
    """
    again = lineage.replay(run, name)
    tell_started(ctx, [again], wait)
    if wait:
        ours: list[StepRow] = from_store(run, StoreReader.steps, [])
        theirs: list[StepRow] = from_store(again, StoreReader.steps, [])
        difference = first_difference(ours, theirs)
        steps = len({row.step for row in ours} & {row.step for row in theirs})
        if not steps:
            raise Problem(f"{run.id} has finished no step that could be compared")
        click.echo(difference or f"equal in {steps} steps")
        if difference:
            ctx.exit(FAILED)


def first_difference(ours: list[StepRow], theirs: list[StepRow]) -> str | None:
    """The first step and figure in which two runs differ, in words; None if they are equal.

    Only steps that both have count; what a clock measured does not.
    """
    others = {row.step: row for row in theirs}
    for row in ours:
        other = others.get(row.step)
        if other is None:
            continue
        was, now = row.repeatable(), other.repeatable()
        for name in was | now:
            if repr(was.get(name)) != repr(now.get(name)):
                return f"step {row.step}: {name} was {was.get(name)!r} and is {now.get(name)!r}"
    return None
