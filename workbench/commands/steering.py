"""Verbs that steer a run: set, pause, resume, checkpoint, rollback, stop."""

import time
from typing import Any

import click

from rlhf_engine.job.knobs import find_knob
from rlhf_engine.runs import launch
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.inbox import Kind, send
from rlhf_engine.runs.reader import CommandRow, Session, StoreReader
from rlhf_engine.runs.sample import printable
from rlhf_engine.runs.state import RunState, run_state
from workbench.commands.common import Problem, from_store, say, with_run
from workbench.commands.text import number

POLL_SECONDS = 0.1

wait_option = click.option(
    "--wait", is_flag=True, help="Wait until the run has taken it up, and print the step."
)


def ready(run: RunDir) -> RunState:
    """The state of a run that takes commands; else says why not, and what to do."""
    state = run_state(run)
    if state.word == "done":
        raise Problem(f"{run.id} is done; a finished run takes no commands")
    if state.ended:
        raise Problem(
            f"{run.id} is not running ({state.word} at step {state.step}); "
            f"go on with it first: workbench resume {run.id}"
        )
    return state


def post(run: RunDir, kind: Kind, body: dict[str, Any] | None = None) -> str:
    """Put a command into the run's inbox; return its id."""
    return send(run.inbox, kind, body, client="cli")


def answer(run: RunDir, command_id: str) -> CommandRow:
    """Wait until the run has taken a command up; a refusal is a Problem with its reason."""
    while True:
        # The state is read first: an engine answers before it ends.
        state = run_state(run)
        row = _acknowledged(run, command_id)
        if row and row.state == "rejected":
            raise Problem(f"{run.id} refused: {printable(row.note)}")
        if row:
            return row
        if state.ended:
            again = f"; it will do so after: workbench resume {run.id}" if state.resumable else ""
            raise Problem(
                f"{run.id} ended ({state.word} at step {state.step}) before it took this up{again}"
            )
        time.sleep(POLL_SECONDS)


def _acknowledged(run: RunDir, command_id: str) -> CommandRow | None:
    return from_store(run, lambda store: store.command(command_id), None)


@click.command("set")
@with_run
@click.argument("knob")
@click.argument("value")
@wait_option
def set_(run: RunDir, knob: str, value: str, wait: bool) -> None:
    """Change a knob while the run trains."""
    found = find_knob(type(run.spec()), knob)
    wanted = found.parse(value)
    state = ready(run)
    command_id = post(run, "set", {"knob": found.name, "value": wanted})
    change = f"{found.name} = {number(wanted)}"
    if state.word == "paused":
        say(f"{run.id} is paused; {change} takes effect after: workbench resume {run.id}")
    elif not wait:
        say(f"sent: {change} takes effect at the next step of {run.id}")
    if wait:
        step = answer(run, command_id).step
        say(f"{change} from step {step} on")
        click.echo(step)


@click.command()
@with_run
@click.argument("step", type=click.IntRange(min=0))
@wait_option
def rollback(run: RunDir, step: int, wait: bool) -> None:
    """Go back to an earlier step; what came after it becomes history.

    A run that has stopped, failed or was lost is started again for it.
    """
    state = run_state(run)
    if state.word == "done":
        raise Problem(
            f"{run.id} is done and stays as it is; go on from step {step} in a run of its own: "
            f"workbench fork {run.id} --step {step}"
        )
    command_id = post(run, "rollback", {"step": step})
    if state.resumable:
        launch.start_engine(run)
    if not wait:
        say(f"sent: rollback of {run.id} to step {step}")
        return
    at = answer(run, command_id).step
    say(f"{run.id} goes on from step {at}")
    click.echo(at)


def _plain(run: RunDir, kind: Kind, wait: bool) -> None:
    ready(run)
    command_id = post(run, kind)
    if not wait:
        say(f"sent: {kind} to {run.id}")
        return
    step = answer(run, command_id).step
    while kind == "stop" and not run_state(run).ended:
        time.sleep(POLL_SECONDS)
    say(f"{run.id}: {kind} taken up after step {step}")
    click.echo(step)


@click.command()
@with_run
@wait_option
def pause(run: RunDir, wait: bool) -> None:
    """Let a run rest; it keeps its memory and device."""
    _plain(run, "pause", wait)


@click.command()
@with_run
@wait_option
def checkpoint(run: RunDir, wait: bool) -> None:
    """Save a checkpoint at the next step boundary."""
    _plain(run, "checkpoint", wait)


@click.command()
@with_run
@wait_option
def stop(run: RunDir, wait: bool) -> None:
    """Save and end a run; `resume` goes on with it."""
    _plain(run, "stop", wait)


@click.command()
@with_run
@wait_option
def resume(run: RunDir, wait: bool) -> None:
    """Go on with a run that is paused, stopped or lost."""
    if not run_state(run).resumable:
        _plain(run, "resume", wait)
        return
    launch.start_engine(run)
    step = _resumed_from(run) if wait else None
    say(f"{run.id} goes on from {'its last checkpoint' if step is None else f'step {step}'}")
    if step is not None:
        click.echo(step)


def _resumed_from(run: RunDir) -> int:
    """Wait for the new session's first word; the step that it goes on from."""
    while True:
        state = run_state(run)
        sessions: list[Session] = from_store(run, StoreReader.sessions, [])
        if sessions and not sessions[-1].ended:
            return sessions[-1].resumed_from_step or 0
        if state.ended:
            raise Problem(f"{run.id} ended again: {state.word}: {printable(state.detail)}")
        time.sleep(POLL_SECONDS)
