"""The lines above the charts: which run, its state, its phase."""

import math
from collections.abc import Sequence

from textual.content import Content

from rlhf_engine.runs.reader import StepRow
from rlhf_engine.runs.sample import printable
from rlhf_engine.runs.state import RunState
from workbench.commands.text import cells, clip, of_total, progress_text, wrap
from workbench.feed import Snapshot
from workbench.format import bar, short, span

RECENT = 20
BAR_CELLS = 20
# From this width on a line tells more than what happens now; and so many phases of it.
WIDE, PHASES_TOLD = 100, 4
DOTS = {
    "running": ("●", "$primary"),
    "paused": ("‖", "$accent"),
    "waiting": ("○", "$text-muted"),
    "queued": ("○", "$text-muted"),
    "starting": ("○", "$text-muted"),
    "done": ("✓", "$primary"),
    "stopped": ("■", "$text-muted"),
    "cancelled": ("■", "$text-muted"),
}
ALARM = ("✗", "bold $error")


def seconds_per_step(snapshot: Snapshot) -> float | None:
    """The mean of the last steps; None before the first one."""
    recent = [
        row.metrics["seconds"] for row in snapshot.steps[-RECENT:] if "seconds" in row.metrics
    ]
    return sum(recent) / len(recent) if recent else None


def title_line(name: str, stage: str, snapshot: Snapshot, frozen: bool, width: int) -> Content:
    """Name, state in a sign and a word, step, speed, ETA; what does not fit goes from the end."""
    state = snapshot.state
    dot, style = DOTS.get(state.word, ALARM)
    parts = [f"step {of_total(state.step, state.total)}"] if state.step or state.total else []
    if state.total:
        parts.append(f"{100 * state.step / state.total:.0f}%")
    seconds = seconds_per_step(snapshot)
    if seconds is not None:
        parts.append(f"{short(seconds)} s/step")
        if state.total and not state.ended:
            parts.append(f"ETA {span((state.total - state.step) * seconds)}")
    if frozen:
        parts.insert(0, "DISPLAY FROZEN (f)")
    head = f" {clip(name, 40)}  {stage}  "
    room = width - cells(head) - cells(state.word) - 4
    while parts and cells("   ".join(parts)) > room:
        parts.pop()
    return Content.assemble(
        (head, "bold"), (f"{dot} {state.word}", style), "   ", "   ".join(parts)
    )


def shares(steps: Sequence[StepRow]) -> str:
    """What the last steps spent their time on: `a step: update 63% · generate 22% · measure 15%`.

    Empty where there is one phase alone.
    """
    spent: dict[str, float] = {}
    for row in steps[-RECENT:]:
        for name, took in row.phases.items():
            spent[name] = spent.get(name, 0.0) + (took if math.isfinite(took) else 0.0)
    total = sum(spent.values())
    largest = sorted(spent.items(), key=lambda phase: -phase[1])[:PHASES_TOLD]
    told = [f"{printable(name)} {100 * took / total:.0f}%" for name, took in largest if took > 0]
    return f"a step: {' · '.join(told)}" if len(told) > 1 else ""


def phase_line(snapshot: Snapshot, width: int) -> Content:
    """What the engine does now, and at the end of a wide line what a step's time goes to."""
    line = _phase_now(snapshot, width)
    told = shares(snapshot.steps) if width >= WIDE and not snapshot.problem else ""
    room = width - 1 - cells(line.plain)
    if not told or cells(told) + 3 > room:
        return line
    return Content.assemble(line, " " * (room - cells(told)), (told, "$text-muted"))


def _phase_now(snapshot: Snapshot, width: int) -> Content:
    """What the engine does now with its measure, or how the run ended and what to do."""
    if snapshot.problem:
        return Content.styled(f" {clip(snapshot.problem, width - 2)}", "bold $error")
    progress, state = snapshot.progress, snapshot.state
    if state.word == "running" and progress is not None:
        measure = f"{bar(progress.done, progress.total, BAR_CELLS)} " if progress.total else ""
        left = snapshot.phase_seconds_left
        said = progress_text(progress) + (f" · ETA {span(left)}" if left is not None else "")
        text = clip(said, width - BAR_CELLS - 3)
        return Content.assemble(" ", (measure, "$primary"), text)
    return Content.styled(f" {clip(_told(state), width - 2)}", "$text-muted")


def _told(state: RunState) -> str:
    words = printable(state.detail) or state.word
    if state.word == "paused":
        words += " · p goes on"
    if state.word == "done":
        words += " · F goes on from a step of it in a new run · t its numbers"
    return words


def ending(snapshot: Snapshot, width: int, most: int) -> Content:
    """Why a run ended before its end, or cannot be read, and what to do, in at most so many lines;
    nothing where one line says it."""
    state = snapshot.state
    if snapshot.problem:
        lines = wrap(printable(snapshot.problem), width - 2)[:most]
        said = "\n".join(f" {line}" for line in lines)
        return Content.styled(said, "bold $error") if len(lines) > 1 else Content("")
    if not state.resumable:
        return Content("")
    head = f"{state.word} at step {of_total(state.step, state.total)}"
    text = f"{head}: {state.detail}" if state.detail else head
    lines = [line for part in text.splitlines() for line in wrap(part, width - 2)]
    if len(lines) > most - 1:
        lines = [*lines[: most - 2], f"{clip(lines[most - 2], width - 20)} … (L shows all)"]
    offer = ["r starts it again"]
    if saved := [row.step for row in snapshot.checkpoints if row.step <= state.step]:
        offer = [f"r resumes it from the checkpoint of step {max(saved)}", "b rolls it back"]
        offer.append("F forks it")
    offer.append("L shows its log")
    alarm = "bold $error" if state.word in ("failed", "lost") else "bold"
    return Content.assemble(
        ("\n".join(f" {line}" for line in lines), alarm), f"\n {clip(' · '.join(offer), width - 2)}"
    )


def event_line(snapshot: Snapshot, width: int) -> Content:
    """The newest thing that happened; warnings and errors by their word too."""
    if not snapshot.events:
        return Content("")
    event = snapshot.events[-1]
    loud = event.level != "info"
    text = f" step {event.step} · {event.level + ': ' if loud else ''}{event.text}"
    return Content.styled(" " + clip(text, width - 2), "bold $accent" if loud else "$text-muted")
