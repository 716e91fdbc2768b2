"""Verbs that show runs: `ls` and `show`."""

import json
import time
import tomllib
from pathlib import Path
from typing import Any

import click

from rlhf_engine.job.spec import Spec, inputs
from rlhf_engine.runs.directory import RunDir, RunNotFound, all_runs, find_run
from rlhf_engine.runs.reader import CheckpointRow, Session, StoreReader
from rlhf_engine.runs.state import RunState, run_state
from workbench.commands.common import emit, from_store, json_option, say, with_home, with_run
from workbench.commands.follow import key_figures, look
from workbench.commands.records import current_knobs
from workbench.commands.text import (
    Cell,
    clip,
    grid,
    number,
    of_total,
    paragraph,
    progress_text,
    terminal_width,
)
from workbench.table import table_of


@click.command()
@with_home
@json_option
def ls(home: Path, as_json: bool) -> None:
    """List the runs, newest first."""
    found = [(run, _stage(run), run_state(run)) for run in all_runs(home)]
    if as_json:
        for run, stage, state in found:
            emit({"id": run.id, "stage": stage, **_state_record(state), "path": str(run.path)})
        return
    if not found:
        say("no runs yet; start with `workbench demo`, or choose one of `workbench presets`")
        return
    rows = [[run.id, stage, s.word, _steps(s), s.detail] for run, stage, s in found]
    used = max(sum(len(cell) + 2 for cell in row[:4]) for row in rows)
    room = max(10, terminal_width() - used)
    table: list[list[Cell]] = [[*row[:4], clip(row[4], room)] for row in rows]
    for line in grid(["RUN", "STAGE", "STATE", "STEP", "NOW"], table):
        click.echo(line)


def _stage(run: RunDir) -> str:
    """The stage alone: a list of many runs need not validate each spec."""
    try:
        return str(tomllib.loads(run.spec_file.read_text(encoding="utf-8"))["stage"])
    except (OSError, ValueError, KeyError):
        return "unreadable"


def _state_record(state: RunState) -> dict[str, Any]:
    return {
        "state": state.word,
        "detail": state.detail,
        "step": state.step,
        "total_steps": state.total,
    }


def _steps(state: RunState) -> str:
    return of_total(state.step, state.total) if state.step or state.total else ""


@click.command()
@with_run
@json_option
def show(run: RunDir, as_json: bool) -> None:
    """Show one run, and the table of an evaluation."""
    record = _record(run)
    if as_json:
        emit(record)
        return
    click.echo(run.id)
    for label, text in _lines(run, record):
        for line in paragraph(f"  {label}", text, 14, max(60, terminal_width())):
            click.echo(line)
    if table := table_of(run):
        click.echo(f"\n{table}")


def _record(run: RunDir) -> dict[str, Any]:
    spec, now = run.spec(), look(run)
    facts: dict[str, str] = from_store(run, StoreReader.facts, {})
    sessions: list[Session] = from_store(run, StoreReader.sessions, [])
    checkpoints: list[CheckpointRow] = from_store(run, StoreReader.checkpoints, [])
    result = json.loads(facts["result"]) if "result" in facts else None
    return {
        "id": run.id,
        "stage": spec.stage,
        **_state_record(now.state),
        "progress": progress_text(now.progress) if now.progress else None,
        "reads": inputs(spec),
        "path": str(run.path),
        "output": str(run.output) if run.output.is_dir() else None,
        "sessions": [vars(session) for session in sessions],
        "metrics": now.last.metrics if now.last else {},
        "knobs": current_knobs(run, spec),
        "checkpoints": sorted({checkpoint.step for checkpoint in checkpoints}),
        "facts": {key: value for key, value in facts.items() if key != "result"},
        "result": result,
        "spec": spec.model_dump(),
    }


def _lines(run: RunDir, record: dict[str, Any]) -> list[tuple[str, str]]:
    now = look(run)
    state, busy = now.state, now.state.word == "running" and now.progress
    doing = progress_text(busy) if busy else state.detail
    knobs = ", ".join(f"{name} {number(value)}" for name, value in record["knobs"].items())
    lines = [
        ("stage", f"{record['stage']}, step {_steps(state) or 0}"),
        ("state", f"{state.word}{': ' + doing if doing else ''}"),
        ("sessions", _sessions(record["sessions"])),
        ("fork", _fork(run.spec())),
        ("reads", ", ".join(_parent(run, parent) for parent in record["reads"])),
        ("figures", key_figures(now.last, limit=20, between=", ")),
        ("knobs", knobs),
        ("checkpoints", ", ".join(map(str, record["checkpoints"]))),
        ("folder", record["path"]),
        ("output", record["output"] or ""),
    ]
    if state.resumable:
        lines.append(("go on", f"workbench resume {run.id}"))
    return [(label, text) for label, text in lines if text]


def _parent(run: RunDir, parent: str) -> str:
    try:
        return f"{parent} ({run_state(find_run(run.home, parent)).word})"
    except RunNotFound:
        return f"{parent} (gone)"


def _fork(spec: Spec) -> str:
    return f"of {spec.fork.run} after step {spec.fork.step}" if spec.fork else ""


def _sessions(sessions: list[dict[str, Any]]) -> str:
    if not sessions:
        return ""
    last = sessions[-1]
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last["started"]))
    resumed = last["resumed_from_step"]
    how = {"rollback": "rolled back to", "fork": "forked after"}.get(last["began"], "resumed from")
    again = f", {how} step {resumed}" if resumed is not None else ""
    return f"{len(sessions)}; the last one since {started} on {last['host']}{again}"
