"""Rows of a spec's data: from runs, built-in files, files and hubs; training and held-out."""

import json
from pathlib import Path

from rlhf_engine.data.report import Report
from rlhf_engine.data.sources import Row, read_rows
from rlhf_engine.job.errors import SpecError, nearest
from rlhf_engine.job.presets import preset_folder
from rlhf_engine.job.sections import Data
from rlhf_engine.progress import Reporter
from rlhf_engine.runs.directory import find_run
from rlhf_engine.seeding import permutation

PAIRS = "pairs.jsonl"


def data_path(name: str, home: Path) -> str:
    """Where `run:<id>` and `builtin:<name>` lead; anything else stays as it is.

    Raises SpecError if the run has no pairs or the built-in name is unknown.
    """
    if name.startswith("run:"):
        run = find_run(home, name.removeprefix("run:"))
        path = run.output / PAIRS
        if not path.is_file():
            raise SpecError(f"data.path: {run.id} has no {PAIRS}; it must be a done collect run")
        return str(path)
    if name.startswith("builtin:"):
        files = {f"demo-{p.stem}": p for p in (preset_folder() / "demo").glob("*.jsonl")}
        key = name.removeprefix("builtin:")
        if key not in files:
            raise SpecError(f"data.path: no built-in data {key!r}; {nearest(key, files)}")
        return str(files[key])
    return name


def read_split(data: Data, home: Path, seed: int, report: Reporter) -> tuple[list[Row], list[Row]]:
    """Training rows and held-out rows of a spec's data."""
    with report.phase("read data"):
        path = data_path(data.path, home)
        rows = read_rows(path, split=data.split, subset=data.subset, limit=data.max_rows)
        if data.eval_path:
            return rows, read_rows(data_path(data.eval_path, home), split="train")
        if data.eval_split:
            return rows, read_rows(path, split=data.eval_split, subset=data.subset)
    if data.eval_rows >= len(rows):
        raise SpecError(
            f"data.eval_rows = {data.eval_rows} leaves nothing to train on: {path} has "
            f"{len(rows)} rows"
        )
    return _hold_out(rows, data.eval_rows, seed)


def _hold_out(rows: list[Row], wanted: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Hold out whole prompts: rows that share one never stand on both sides."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        prompt = row.fields.get("prompt")
        key = json.dumps(prompt, default=str) if prompt else row.where
        groups.setdefault(key, []).append(index)
    members = list(groups.values())
    held: list[int] = []
    for group in permutation(seed, "held-out", 0, len(members)):
        if len(held) >= wanted:
            break
        held += members[group]
    chosen = set(held)
    train = [row for index, row in enumerate(rows) if index not in chosen]
    return train, [rows[index] for index in sorted(held)]


def tell(report: Reporter, what: str, rows: Report) -> None:
    """Put what became of the rows into the engine's log."""
    for line in rows.lines():
        report.say(f"{what}: {line}")
