"""What the crosshair reads: every figure of one step, in as many columns as there is room for."""

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from rlhf_engine.runs.reader import StepRow
from rlhf_engine.runs.sample import printable
from workbench.commands.text import clip, clock
from workbench.feed import Snapshot
from workbench.format import exact, short

NARROWEST = 19
MOST_HAPPENED = 3


class Reading(Static):
    """The figures and knobs of the step under the crosshair, and what happened there."""

    DEFAULT_CSS = """
    Reading { border: round $primary; padding: 0 1; }
    Reading.strip { border: none; background: $panel; }
    """

    def show(self, row: StepRow, snapshot: Snapshot, first: Sequence[str]) -> None:
        """Read a step; the figures named `first` come first, in case not all have room."""
        head = f"step {row.step} · {clock(row.time)} · session {row.session}"
        keys = "b back · F fork · t table · esc"
        self.border_title, self.border_subtitle = Content(f" {head} "), Content(f" {keys} ")
        width = self.content_size.width
        names = [
            *(n for n in first if n in row.metrics),
            *(n for n in row.metrics if n not in first),
        ]
        figures = [(name, short(row.metrics[name])) for name in names]
        for name, value in row.knobs.items():
            label = f"{name} knob" if name in row.metrics else name
            figures.append((label, exact(value, 4)))
        lines = [clip(text, width) for text in happened(row.step, snapshot)][:MOST_HAPPENED]
        if self.has_class("strip"):
            lines = [clip(f"{head} · {keys}", width), *lines]
        height = self.content_size.height
        lines += columns(figures, width, height - len(lines))
        if len(lines) > height > 1 and not self.has_class("strip"):
            lines = [*lines[: height - 1], "… t shows the rest"]
        self.update(Content("\n".join(lines)))


def columns(figures: list[tuple[str, str]], width: int, height: int) -> list[str]:
    """Names and values in columns that are read downwards."""
    count = max(1, width // NARROWEST)
    while count > 1 and -(-len(figures) // (count - 1)) <= height:
        count -= 1
    rows = -(-len(figures) // count)
    cell = width // count
    lines = []
    for index in range(rows):
        parts = []
        for name, value in figures[index::rows]:
            name = clip(printable(name), max(4, cell - len(value) - 3))
            parts.append(f"{name}{value.rjust(cell - 2 - len(name))}  ")
        lines.append("".join(parts).rstrip())
    return lines


def happened(step: int, snapshot: Snapshot) -> list[str]:
    """Changes of knobs at a step, what people had measured, its checkpoint, and other events."""
    found = [
        f"{row.name} {exact(row.old, 4) if row.old is not None else '–'} → {exact(row.new, 4)} "
        f"({row.source})"
        for row in snapshot.changes
        if row.step == step and row.source not in ("config", "controller")
    ]
    found += [
        "measured: " + ", ".join(f"{name} {short(value)}" for name, value in row.metrics.items())
        for row in snapshot.measured
        if row.step == step
    ]
    found += ["▲ checkpoint" for row in snapshot.checkpoints if row.step == step]
    return found + [
        f"{row.kind}: {row.text}"
        for row in snapshot.events
        if row.step == step and row.kind not in ("command", "checkpoint")
    ]
