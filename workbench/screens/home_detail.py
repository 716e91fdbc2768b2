"""The lines under the list: what the chosen run does or why it ended, and what to do."""

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from rlhf_engine.runs.sample import printable
from workbench.runs_list import RunRow
from workbench.screens.home_table import STATES
from workbench.unreadable import UNREADABLE


class Detail(Static):
    """Tells more of one run than its line in the list can."""

    DEFAULT_CSS = """
    Detail { height: auto; max-height: 7; padding: 0 1; border-top: solid $panel; }
    """

    def show(self, row: RunRow | None, facts: Sequence[str] = ()) -> None:
        """Tell of this run, with `facts` beside its name; of none, take no room."""
        self.display = row is not None
        if row is not None:
            _, colour = STATES.get(row.state.word, ("", "foreground"))
            head = printable("".join(f" · {part}" for part in (row.id, *facts)))
            lines = [Content.assemble((row.state.word, f"${colour}"), head)]
            lines += [Content(text) for text in (row.figures, advice(row)) if text]
            told = Content("\n").join(lines)
            if told != self.content:
                self.update(told)


def advice(row: RunRow) -> str:
    """What a run does or why it ended, and the key that goes on from there."""
    word, now = row.state.word, row.now
    if word == UNREADABLE:
        return f"cannot read the run: {now}; put a copy of its folder back, or D deletes it"
    again = "r goes on from its last checkpoint" if row.saved else "r starts it again"
    if word == "lost":
        if row.state.step:
            why = f"lost at step {row.state.step}: the engine ended without a word"
        else:
            why = f"lost before its first step: {now}"
        return f"{why}; {again}"
    if row.state.resumable:
        return f"{now}; {again}" if now else again
    if word == "paused":
        return f"{now}; r goes on" if now else "r goes on"
    return now
