"""A prompt that a person types, and the answers of the policy of this moment and its reference."""

from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.reader import CommandRow, SampleRow
from rlhf_engine.runs.sample import printable
from rlhf_engine.runs.state import RunState
from workbench.format import short
from workbench.samples_feed import SampleView
from workbench.unreadable import DELETED, UNREADABLE, cannot_read

CLIENT = "tui"


class AskPane(Vertical):
    """The line to type in, what became of the question, and the answers side by side."""

    DEFAULT_CSS = """
    AskPane {
        display: none;
        & > Static { height: auto; max-height: 6; padding: 0 1; }
        & > #answers { height: 1fr; }
        VerticalScroll {
            width: 1fr; height: 1fr; border: round $panel; padding: 0 1;
            border-title-color: $foreground; border-subtitle-color: $text-muted;
        }
        VerticalScroll:focus { border: round $primary; }
        VerticalScroll > Static { height: auto; }
    }
    """

    @dataclass
    class Sent(Message):
        """A question has gone to the run, as this command."""

        command: str

    def __init__(self, run: RunDir, id: str) -> None:
        super().__init__(id=id)
        self._run = run
        self._view = SampleView()
        self._asked = self._command = self._problem = ""
        self._shown: tuple[int, ...] = ()

    def compose(self) -> ComposeResult:
        yield Input(placeholder="a prompt for the policy of this moment", id="question")
        yield Static(id="asked")
        yield Static(id="told")
        yield Horizontal(id="answers")

    def show(self, view: SampleView) -> None:
        """Show the question that was sent, what became of it, and the answers that have come."""
        self._view = view
        known = bool(self._command) and view.want.asked == self._command
        told = question_state(
            *(self._run, view.state, bool(self._command)),
            *(view.answer if known else None, self._problem),
        )
        asked = f"› {printable(self._asked)}" if self._asked else ""
        self.query_one("#asked", Static).update(Content(asked))
        self.query_one("#told", Static).update(Content(printable(told)))
        answers = view.answers if known else ()
        shown = tuple(row.seq for row in answers)
        if shown != self._shown:
            self._shown = shown
            place = self.query_one("#answers", Horizontal)
            place.remove_children()
            place.mount(*(_answer(row) for row in answers))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        prompt, self._problem = event.value, ""
        if not prompt.strip():
            self._problem = "there is no prompt; type a question or an instruction, then ⏎"
        elif refusal := no_answers(self._run, self._view.state):
            self._problem = f"not sent: {refusal}"
        else:
            self._send(prompt)
        self.show(self._view)

    def _send(self, prompt: str) -> None:
        try:
            self._command = inbox.send(self._run.inbox, "sample", {"prompt": prompt}, CLIENT)
        except OSError as error:
            self._problem = f"not sent: {error}; put that right, then ⏎ sends it again"
            return
        self._asked = prompt
        self.query_one("#question", Input).value = ""
        self.post_message(self.Sent(self._command))


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
    run: RunDir, state: RunState, sent: bool, answer: CommandRow | None, problem: str
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
        return f"sent; the policy after step {state.step} answers"
    return f"sent; it is answered when step {state.step + 1} is done"


def no_answers(run: RunDir, state: RunState) -> str:
    """Why a run answers nobody and what to do; empty if it does answer."""
    if state.word == DELETED:
        return "the run was deleted; q goes back"
    if state.word == UNREADABLE:
        return cannot_read(state.detail)
    if not state.ended:
        return ""
    if state.resumable:
        return f"the run is {state.word}; go on with it, then ask: workbench resume {run.id}"
    return (
        f"the run is {state.word} and answers no more; go on from one of its checkpoints in a run "
        f"of its own: workbench fork {run.id} --step {state.step}"
    )
