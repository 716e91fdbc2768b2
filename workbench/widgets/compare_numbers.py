"""The numbers behind the compare screen's charts, as lines of a table."""

import math
from collections.abc import Sequence

from rlhf_engine.runs.reader import StepRow
from workbench.board import LETTERS, Axis
from workbench.lanes import Lane

ROOT = "sqrt(kl)"


def step_lines(lanes: Sequence[Lane], metric: str, axis: Axis) -> tuple[list[StepRow], list[str]]:
    """A line for each step that a run has done, and the columns in their order: figure by figure,
    under each run's letter. The values are those measured, without smoothing."""
    figures = list(dict.fromkeys((metric, ROOT, "score", "gold")))
    if axis == "time":
        figures.insert(0, "seconds run")
    lines: dict[int, dict[str, float]] = {}
    for lane in lanes:
        steps = lane.snapshot.steps
        for row in steps:
            known = row.knobs | row.metrics | {"seconds run": row.time - steps[0].time}
            if "kl" in known:
                known[ROOT] = math.sqrt(max(known["kl"], 0.0))
            cells = lines.setdefault(row.step, {})
            cells |= {_column(lane, name): known[name] for name in figures if name in known}
    rows = [StepRow(0, 0, step, 0.0, lines[step], {}, {}, {}) for step in sorted(lines)]
    return rows, [_column(lane, name) for name in figures for lane in lanes]


def _column(lane: Lane, figure: str) -> str:
    return f"{LETTERS[lane.slot]} {figure}"
