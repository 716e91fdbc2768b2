"""Verbs that print what a run recorded: metrics, samples, knobs, commands, events."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from rlhf_engine.job.knobs import knob_values, knobs_of
from rlhf_engine.job.spec import Spec
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.inbox import pending
from rlhf_engine.runs.reader import (
    CommandRow,
    EventRow,
    KnobRow,
    SampleRow,
    StepRow,
    StoreReader,
)
from workbench.commands.common import emit, from_store, json_option, say, with_run
from workbench.commands.follow import KEY_METRICS
from workbench.commands.text import (
    Cell,
    cells,
    clip,
    clock,
    grid,
    number,
    paragraph,
    terminal_width,
)
from workbench.token_rewards import TokenRewards

EVERYTHING = 1_000_000_000
TOKEN_FIELDS = ("pieces", "tokens", "logp", "ref_logp", "value", "advantage")

last_option = click.option(
    "--last", type=click.IntRange(min=1), metavar="N", help="Only the newest N."
)


@click.command()
@with_run
@last_option
@json_option
def metrics(run: RunDir, last: int | None, as_json: bool) -> None:
    """Print the metrics and knobs of every step."""
    rows: list[StepRow] = from_store(run, StoreReader.steps, [])
    steps = [row.flat() for row in (rows[-last:] if last else rows)]
    if as_json:
        for step in steps:
            emit(step)
    elif not steps:
        say(f"{run.id} has finished no step yet")
    else:
        _metrics_table(steps)


def _metrics_table(steps: Sequence[Mapping[str, float]]) -> None:
    names = list(dict.fromkeys(name for step in steps for name in step))
    names = [name for name in names if name not in ("step", "time", "session")]
    names.sort(key=lambda name: KEY_METRICS.index(name) if name in KEY_METRICS else 99)
    room, chosen = terminal_width() - 6, list[str]()
    for name in names:
        room -= 2 + max(len(name), *(len(number(step.get(name))) for step in steps))
        if room >= 0:
            chosen.append(name)
    rows: list[list[Cell]] = [
        [step["step"], *(step.get(name) for name in chosen)] for step in steps
    ]
    for line in grid(["step", *chosen], rows):
        click.echo(line)
    if len(chosen) < len(names):
        say(f"{len(names) - len(chosen)} more figures with --json")


@click.command()
@with_run
@last_option
@click.option("--step", type=int, help="Only those of one step.")
@click.option("--kind", type=click.Choice(["train", "eval", "draft", "asked"]), help="Only those.")
@click.option("--tokens", is_flag=True, help="With --json: the figures of every token too.")
@json_option
def samples(
    run: RunDir, last: int | None, step: int | None, kind: str | None, tokens: bool, as_json: bool
) -> None:
    """Print prompts and responses: the newest 10, with --json all."""
    limit = last or (EVERYTHING if as_json else 10)
    paid = TokenRewards(run) if tokens else None

    def read(store: StoreReader) -> list[tuple[SampleRow, tuple[float, ...]]]:
        rows = store.samples(step=step, kind=kind, limit=limit)[::-1]
        return [(row, paid.of(store, row) if paid else ()) for row in rows]

    found: list[tuple[SampleRow, tuple[float, ...]]] = from_store(run, read, [])
    if not found and not as_json:
        say(f"{run.id} has recorded no such samples yet")
    for row, rewards in found:
        if as_json:
            emit(_sample_record(row, rewards, tokens))
        else:
            _print_sample(row)


def _sample_record(row: SampleRow, rewards: Sequence[float], tokens: bool) -> dict[str, Any]:
    fields = dict(vars(row.sample))
    for name in TOKEN_FIELDS:
        values = fields.pop(name)
        if tokens:
            fields[name] = list(values)
    if tokens:
        fields["rewards"] = list(rewards)
    return {"step": row.step, "session": row.session, **fields}


def _print_sample(row: SampleRow) -> None:
    sample, width = row.sample, max(60, terminal_width())
    figures = {name: getattr(sample, name) for name in ("score", "gold", "kl", "net_reward")}
    told = [f"{name} {number(value)}" for name, value in figures.items() if value is not None]
    ending = [] if sample.finished else ["cut off"]
    click.echo("  ".join([f"step {row.step}", sample.kind, *told, *ending]))
    for label, text in (("prompt", sample.prompt), ("response", sample.response)):
        for line in paragraph(f"  {label}", text, 12, width):
            click.echo(line)


def current_knobs(run: RunDir, spec: Spec) -> dict[str, float]:
    """Each knob's value now: the spec's, or that of the last change."""
    changes: list[KnobRow] = from_store(run, StoreReader.knobs, [])
    return knob_values(spec) | {change.name: change.new for change in changes}


@click.command()
@with_run
@json_option
def knobs(run: RunDir, as_json: bool) -> None:
    """Print the knobs: value, bounds, who changed them when."""
    spec = run.spec()
    known, values = knobs_of(type(spec)), current_knobs(run, spec)
    changes: list[KnobRow] = from_store(run, StoreReader.knobs, [])
    if as_json:
        for knob in known.values():
            told = [vars(change) for change in changes if change.name == knob.name]
            emit(
                {
                    "name": knob.name,
                    "value": values[knob.name],
                    "path": knob.dotted,
                    "bounds": knob.bounds,
                    "unit": knob.unit,
                    "help": knob.help,
                    "changes": told,
                }
            )
        return
    if not known:
        say(f"a {spec.stage} run has nothing to change while it works")
        return
    rows: list[list[Cell]] = [
        [knob.name, values[knob.name], knob.bounds, knob.unit] for knob in known.values()
    ]
    for line in grid(["knob", "value", "allowed", "unit"], rows):
        click.echo(line)
    for change in changes:
        if change.old is not None:
            was, now = number(change.old), number(change.new)
            click.echo(f"step {change.step}: {change.name} {was} → {now} ({change.source})")


@click.command()
@with_run
@json_option
def commands(run: RunDir, as_json: bool) -> None:
    """Print the commands sent, with the step of each."""
    taken: list[CommandRow] = from_store(run, StoreReader.commands, [])
    known = {command.id for command in taken}
    records = [vars(command) for command in taken]
    records += [
        {**vars(command), "state": "waiting", "step": None, "note": ""}
        for command in pending(run.inbox)
        if command.id not in known
    ]
    if as_json:
        for record in records:
            emit(record)
    elif not records:
        say(f"nobody has sent {run.id} a command yet")
    else:
        rows: list[list[Cell]] = [
            [
                clock(r["sent"]),
                r["kind"],
                _body(r["body"]),
                r["state"],
                r["step"],
                clip(r["note"], 60),
            ]
            for r in records
        ]
        for line in grid(["sent", "command", "value", "state", "step", "note"], rows):
            click.echo(line)


def _body(body: Mapping[str, Any]) -> str:
    if "knob" in body:
        return clip(f"{body['knob']} = {body.get('value')}", 40)
    return clip(" ".join(f"{key}={value}" for key, value in body.items()), 40)


@click.command()
@with_run
@json_option
def events(run: RunDir, as_json: bool) -> None:
    """Print warnings and what else happened beside the steps."""
    rows: list[EventRow] = from_store(run, StoreReader.events, [])
    if not rows and not as_json:
        say(f"nothing to tell of {run.id} yet")
    for row in rows:
        if as_json:
            emit(vars(row))
        else:
            head = f"{clock(row.time)}  step {row.step:<5} {row.level:<5}"
            for line in paragraph(head, row.text, cells(head) + 2, max(60, terminal_width())):
                click.echo(line)
