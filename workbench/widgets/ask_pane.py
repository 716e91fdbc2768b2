"""A prompt that a person types, and the answers of the policy of this moment and its reference."""

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.reader import CommandRow, SampleRow
from rlhf_engine.runs.sample import printable
from rlhf_engine.runs.state import RunState
from workbench.format import short


class AskPane(Vertical):
    """The line to type in, what became of the question, and the answers side by side."""

    DEFAULT_CSS = """
    AskPane {
        display: none;
        & > Static { height: auto; max-height: 6; padding: 0 1; }
        & > #answers { height: 1fr; }
        VerticalScroll { width: 1fr; height: 1fr; border: round $panel; padding: 0 1; }
        VerticalScroll:focus { border: round $primary; }
        VerticalScroll > Static { height: auto; }
    }
    """

    def compose(self) -> ComposeResult:
        yield Input(placeholder="a prompt for the policy of this moment", id="question")
        yield Static(id="asked")
        yield Static(id="told")
        yield Horizontal(id="answers")

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._shown: tuple[int, ...] = ()

    def show(self, asked: str, told: str, answers: Sequence[SampleRow]) -> None:
        """Show the question that was sent, its state, and the answers that have come."""
        self.query_one("#asked", Static).update(Content(f"› {printable(asked)}" if asked else ""))
        self.query_one("#told", Static).update(Content(printable(told)))
        shown = tuple(row.seq for row in answers)
        if shown != self._shown:
            self._shown = shown
            place = self.query_one("#answers", Horizontal)
            place.remove_children()
            place.mount(*(_answer(row) for row in answers))


def _answer(row: SampleRow) -> VerticalScroll:
    sample = row.sample
    figures = {"score": sample.score, "gold": sample.gold, "KL": sample.kl}
    parts = [str(sample.detail.get("policy", "policy"))]
    parts += [f"{name} {short(value)}" for name, value in figures.items() if value is not None]
    parts += [f"{len(sample.tokens)} tokens"] + ([] if sample.finished else ["cut off"])
    box = VerticalScroll(Static(Content(printable(sample.response) or "(nothing)")))
    box.border_title = Content(printable(" · ".join(parts)))
    return box


def question_state(
    run: RunDir, state: RunState, step: int, sent: bool, answer: CommandRow | None, problem: str
) -> str:
    """What became of a question, in a sentence; where it cannot be asked, the next step."""
    if problem:
        return problem
    if answer is not None and answer.state == "rejected":
        return f"refused: {answer.note}"
    if answer is not None:
        return answer.note or f"answered after step {answer.step}"
    if refusal := no_answers(run, state):
        return f"it did not answer: {refusal}" if sent else refusal
    if not sent:
        return "⏎ sends it; the run's own numbers stay as they are; esc goes back to the samples"
    if state.word in ("starting", "waiting", "queued"):
        return f"sent; it is answered once the run has begun ({state.word})"
    if state.word == "paused":
        return f"sent; the policy after step {step} answers"
    return f"sent; it is answered when step {step + 1} is done"


def no_answers(run: RunDir, state: RunState) -> str:
    """Why a run answers nobody and what to do; empty if it does answer."""
    if not state.ended:
        return ""
    if state.resumable:
        return f"the run is {state.word}; go on with it, then ask: workbench resume {run.id}"
    return (
        f"the run is {state.word} and answers no more; go on from one of its checkpoints in a run "
        f"of its own: workbench fork {run.id} --step {state.step}"
    )
