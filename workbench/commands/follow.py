"""Watching runs from a plain terminal: snapshots, and few enough progress lines."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.reader import Progress, StepRow
from rlhf_engine.runs.sample import printable
from rlhf_engine.runs.state import RunState, run_state
from workbench.commands.common import from_store
from workbench.commands.text import number, of_total, progress_text

POLL_SECONDS = 0.5
LINE_SECONDS = 10.0
LOG_LINES = 15
# The figures that tell how a stage goes, in the order in which a person reads them.
KEY_METRICS = (
    *("loss", "accuracy", "token_accuracy", "margin", "eval_loss", "eval_accuracy"),
    *("score", "gold", "kl", "kl_coef", "eval_score", "eval_gold", "eval_kl", "pairs"),
)


@dataclass(frozen=True)
class Look:
    """One run at one moment."""

    state: RunState
    progress: Progress | None
    last: StepRow | None


def look(run: RunDir) -> Look:
    """Read state, progress and last step of a run."""
    state = run_state(run)
    return from_store(
        run,
        lambda store: Look(state, store.progress(), store.last_step()),
        Look(state, None, None),
    )


def key_figures(step: StepRow | None, limit: int = 5, between: str = "  ") -> str:
    """The telling figures of a step in one line; empty before the first step."""
    figures = step.flat() if step else {}
    known = [f"{name} {number(figures[name])}" for name in KEY_METRICS if name in figures]
    return between.join(known[:limit])


class Narrator:
    """Tells a run's way in lines: each state and phase when it is new, then one in ten seconds."""

    def __init__(self, run: RunDir) -> None:
        self._label = run.id[16:]
        self._seen: set[tuple[str, str]] = set()
        self._told = (0.0, "")

    def line(self, now: Look, seconds: float) -> str | None:
        """The line to print at `seconds` since the start, if there is something to tell."""
        if now.state.word == "starting":
            return None
        busy = now.progress if now.state.word == "running" else None
        key = (now.state.word, busy.text or busy.phase if busy else "")
        text = self._text(now, busy)
        told_at, told = self._told
        due = seconds - told_at >= LINE_SECONDS and text != told and not now.state.ended
        if key in self._seen and not due:
            return None
        self._seen.add(key)
        self._told = (seconds, text)
        minutes, rest = divmod(int(seconds), 60)
        return printable(f"{minutes:3d}:{rest:02d}  {self._label:<16} {text}")

    def _text(self, now: Look, busy: Progress | None) -> str:
        state = now.state
        parts = [f"{state.word:<8} {progress_text(busy) if busy else state.detail}".rstrip()]
        if state.step:
            parts.append(f"step {of_total(state.step, state.total)}")
        if state.word != "waiting":
            parts.append(key_figures(now.last))
        return " · ".join(part for part in parts if part)


def follow(
    runs: Sequence[RunDir], tell: Callable[[str], None], poll: float = POLL_SECONDS
) -> list[RunState]:
    """Tell the progress of runs until each of them has ended; return how."""
    narrators = {run.id: Narrator(run) for run in runs}
    start = time.monotonic()
    while True:
        looks = {run.id: look(run) for run in runs}
        for run_id, now in looks.items():
            if line := narrators[run_id].line(now, time.monotonic() - start):
                tell(line)
        if all(now.state.ended for now in looks.values()):
            return [now.state for now in looks.values()]
        time.sleep(poll)


def tell_failures(
    runs: Sequence[RunDir], states: Sequence[RunState], tell: Callable[[str], None]
) -> bool:
    """Say of each run that is not done why, and what can be done; whether there was one."""
    for run, state in zip(runs, states, strict=True):
        if state.word == "done":
            continue
        tell(f"{run.id}: {state.word}{': ' + printable(state.detail) if state.detail else ''}")
        if state.word in ("failed", "lost") and run.log.is_file():
            tell(f"the last lines of {run.log}:")
            log = run.log.read_text(encoding="utf-8", errors="replace").splitlines()
            for line in log[-LOG_LINES:]:
                tell(f"  {printable(line)}")
        if state.resumable:
            tell(f"go on from its last checkpoint: workbench resume {run.id}")
    return any(state.word != "done" for state in states)
