"""Verbs that ask a run something while it trains: sample, measure."""

import click

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.reader import CommandRow, MeasuredRow, SampleRow
from rlhf_engine.runs.sample import ASKED
from workbench.commands.common import Unusable, emit, from_store, json_option, say, with_run
from workbench.commands.steering import answer, post, ready, wait_option
from workbench.commands.text import number, paragraph, terminal_width


@click.command()
@with_run
@click.argument("prompt")
@wait_option
@json_option
def sample(run: RunDir, prompt: str, wait: bool, as_json: bool) -> None:
    """Ask the policy of this moment; --wait prints its answer and the reference's.

    The run's own numbers stay as they are. A paused run answers too.
    """
    if not prompt.strip():
        raise Unusable("there is no prompt; put a question or an instruction in quotes")
    ready(run)
    command_id = post(run, "sample", {"prompt": prompt})
    if not wait:
        say(f"sent: {run.id} answers after its step; see: workbench samples {run.id} --kind asked")
        return
    row = answer(run, command_id)
    say(f"{run.id}: {row.note}")
    for found in _answers(run, row):
        if as_json:
            about = {"step": found.step, "policy": found.sample.detail["policy"]}
            told = ("prompt", "response", "finished", "score", "gold", "kl", "net_reward")
            emit(about | {name: getattr(found.sample, name) for name in told})
        else:
            _print_answer(found)


def _answers(run: RunDir, row: CommandRow) -> list[SampleRow]:
    rows: list[SampleRow] = from_store(
        run, lambda store: store.samples(kind=ASKED, step=row.step)[::-1], []
    )
    return [found for found in rows if found.sample.detail["command"] == row.id]


def _print_answer(row: SampleRow) -> None:
    sample = row.sample
    figures = {"score": sample.score, "gold": sample.gold, "KL": sample.kl}
    told = [f"{name} {number(value)}" for name, value in figures.items() if value is not None]
    ending = [] if sample.finished else ["cut off"]
    click.echo("  ".join([sample.detail["policy"], *told, *ending]))
    for line in paragraph(" ", sample.response or "(nothing)", 2, max(60, terminal_width())):
        click.echo(line)


@click.command()
@with_run
@wait_option
@json_option
def measure(run: RunDir, wait: bool, as_json: bool) -> None:
    """Measure the held-out data now; --wait prints the figures.

    The run's own later numbers stay as they are.
    """
    ready(run)
    command_id = post(run, "evaluate")
    if not wait:
        say(f"sent: {run.id} measures its held-out data after its step")
        return
    step = answer(run, command_id).step
    rows: list[MeasuredRow] = from_store(run, lambda store: store.measured(), [])
    (found,) = [row for row in rows if row.command_id == command_id]
    say(f"{run.id}: held-out data after step {step}")
    if as_json:
        emit({"step": step, "time": found.time, **found.metrics})
        return
    for name, value in found.metrics.items():
        click.echo(f"{name} {number(value)}")
