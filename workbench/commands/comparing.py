"""The verb `compare`: runs side by side in the terminal, or as JSON lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from rlhf_engine.runs.directory import RunDir, find_run
from rlhf_engine.runs.reader import StepRow, StoreReader
from rlhf_engine.runs.state import RunState, run_state
from workbench.commands.common import Unusable, emit, from_store, json_option, with_home
from workbench.commands.text import Cell, clip, grid, of_total, terminal_width
from workbench.comparison import (
    WITHOUT_BEST,
    Figure,
    Setting,
    Tally,
    best_text,
    differing,
    figure_names,
    settings,
)

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class _Compared:
    letter: str
    run: RunDir
    stage: str
    state: RunState
    tally: Tally
    settings: dict[str, Setting]


@click.command()
@with_home
@click.argument("run_keys", metavar="RUN...", nargs=-1, required=True)
@json_option
def compare(home: Path, run_keys: tuple[str, ...], as_json: bool) -> None:
    """Show how runs went, and the fields of their specs that differ.

    `best` is the best single step and where it was; `s/step` the median of the newest 50. A knob
    that was turned shows what it was and what it is: `0.05 → 0.2`.
    """
    runs = list(dict.fromkeys(find_run(home, key) for key in run_keys))
    if len(runs) < 2:
        raise Unusable("name at least two runs to compare; `workbench ls` lists them")
    if len(runs) > len(LETTERS):
        raise Unusable(f"at most {len(LETTERS)} runs at once")
    compared = [_read(letter, run) for letter, run in zip(LETTERS, runs, strict=False)]
    fields = differing([one.settings for one in compared])
    if as_json:
        _emit(compared, fields)
        return
    for line in _figures_table(compared):
        click.echo(line)
    click.echo("")
    for line in _fields_table(compared, fields):
        click.echo(line)


def _read(letter: str, run: RunDir) -> _Compared:
    spec, state = run.spec(), run_state(run)
    steps: list[StepRow] = from_store(run, StoreReader.steps, [])
    tally = Tally()
    tally.update(steps)
    knobs = steps[-1].knobs if steps else None
    return _Compared(letter, run, spec.stage, state, tally, settings(spec, knobs))


def _emit(compared: Sequence[_Compared], fields: Sequence[str]) -> None:
    """One object a run, then one a field that differs."""
    for one in compared:
        emit(
            {
                "record": "run",
                "id": one.run.id,
                "stage": one.stage,
                "state": one.state.word,
                "step": one.state.step,
                "total_steps": one.state.total,
                "seconds_per_step": one.tally.seconds,
                "figures": {name: vars(figure) for name, figure in one.tally.figures.items()},
            }
        )
    for name in fields:
        having = [one for one in compared if name in one.settings]
        record: dict[str, Any] = {"record": "field", "field": name}
        record["values"] = {one.run.id: one.settings[name].value for one in having}
        turned = {one.run.id: one.settings[name].now for one in having}
        record["now"] = {run: now for run, now in turned.items() if now is not None}
        emit(record)


def _figures_table(compared: Sequence[_Compared]) -> list[str]:
    """One line a run, then its figures in tables that fit the terminal."""
    rows: list[list[Cell]] = [
        [one.letter, one.run.id, one.state.word, of_total(one.state.step, one.state.total)]
        for one in compared
    ]
    columns: list[tuple[str, list[Cell]]] = []
    for name in figure_names([one.tally for one in compared]):
        figures: list[Figure | None] = [one.tally.figures.get(name) for one in compared]
        columns.append((name, [_last(figure) for figure in figures]))
        if name not in WITHOUT_BEST:
            columns.append(("best", [best_text(figure) for figure in figures]))
    columns.append(("s/step", [one.tally.seconds for one in compared]))
    lines = grid(["", "RUN", "STATE", "STEP"], rows)
    letters: list[Cell] = [one.letter for one in compared]
    for block in _blocks(columns, terminal_width() - 3):
        shown = _transposed([letters, *(cells for _, cells in block)])
        lines += ["", *grid(["", *(name for name, _ in block)], shown)]
    return lines


def _last(figure: Figure | None) -> Cell:
    if figure is None:
        return None
    return "NaN" if math.isnan(figure.last) else figure.last


def _blocks(
    columns: Sequence[tuple[str, list[Cell]]], room: int
) -> list[list[tuple[str, list[Cell]]]]:
    """The columns in as many tables below each other as their widths need."""
    blocks: list[list[tuple[str, list[Cell]]]] = [[]]
    for column in columns:
        tried = [*blocks[-1], column]
        width = max(map(len, grid([n for n, _ in tried], _transposed([c for _, c in tried]))))
        if blocks[-1] and width > room:
            blocks.append([column])
        else:
            blocks[-1] = tried
    return blocks


def _transposed(columns: Sequence[list[Cell]]) -> list[list[Cell]]:
    return [list(row) for row in zip(*columns, strict=True)]


def _fields_table(compared: Sequence[_Compared], fields: Sequence[str]) -> list[str]:
    """One line a field that differs, a column a run."""
    if not fields:
        return ["no field of their specs differs"]
    label = min(max(map(len, fields)), 30)
    room = max(10, (terminal_width() - label) // len(compared) - 2)
    rows: list[list[Cell]] = []
    for name in fields:
        shown = [str(one.settings[name]) if name in one.settings else "–" for one in compared]
        rows.append([clip(name, label), *(clip(text, room) for text in shown)])
    return grid(["FIELD", *(one.letter for one in compared)], rows)
