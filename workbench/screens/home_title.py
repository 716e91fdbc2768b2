"""The line over the list of runs: how many there are, run and are marked, and the GPUs."""

from collections.abc import Sequence

from textual.content import Content

from rlhf_engine.runs.sample import printable
from workbench.runs_list import RunRow


def title_line(
    rows: Sequence[RunRow], kept: Sequence[RunRow], unread: int, marked: int, gpus: str
) -> Content:
    """Says what the list holds; `kept` are the rows that a filter leaves."""
    count = len(rows)
    runs = f"{count} run{'' if count == 1 else 's'}"
    words = [runs if len(kept) == count else f"{len(kept)} of {count} runs"]
    if unread:
        words.append(f"{unread} more are being read")
    if running := sum(row.state.word == "running" for row in rows):
        words.append(f"{running} running")
    if marked:
        words.append(f"{marked} marked: c compares")
    return Content.assemble(
        ("RLHF Workbench", "bold"), "  ", " · ".join(words), "  ", printable(gpus)
    )
