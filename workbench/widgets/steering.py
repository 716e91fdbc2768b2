"""What a person does to the knobs: staged values, sent commands, and the run's answers."""

from dataclasses import dataclass, field
from typing import Literal

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.knobs import Knob
from rlhf_engine.runs.inbox import Command
from rlhf_engine.runs.reader import KnobRow
from workbench.feed import Snapshot
from workbench.format import exact

# The phases of a step; before and between steps the engine loads, reads or saves.
STEP_PHASES = frozenset({"generate", "judge", "measure", "score", "train", "evaluate", "update"})
# An applied change is no news any more after so many steps with it.
APPLIED_STEPS = 3
Tone = Literal["staged", "waiting", "applied", "refused", "plain"]


@dataclass(frozen=True)
class Status:
    """One line on what was asked for and what became of it."""

    tone: Tone
    text: str


@dataclass
class Steering:
    """Knobs of one run: their values, what is staged, and what was sent from here; `asked` is
    what was sent last, whose answers are shown."""

    knobs: dict[str, Knob]
    start: dict[str, float]
    staged: dict[str, float] = field(default_factory=dict)
    typed: str = ""
    problem: str = ""
    sent: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def value(self, name: str, snapshot: Snapshot) -> float:
        """The value that the next step runs with, as far as the run has said."""
        changed = self.last_change(name, snapshot)
        return changed.new if changed else self.start[name]

    def last_change(self, name: str, snapshot: Snapshot) -> KnobRow | None:
        return next((row for row in reversed(snapshot.changes) if row.name == name), None)

    def waiting(self, name: str, snapshot: Snapshot) -> float | None:
        """The newest value that was sent, by whomever, and is not taken up yet."""
        values = [c.body.get("value") for c in self.open(snapshot) if c.body.get("knob") == name]
        return float(values[-1]) if values and isinstance(values[-1], int | float) else None

    def open(self, snapshot: Snapshot) -> list[Command]:
        """Commands in the inbox that the run has not answered."""
        answered = {row.id for row in snapshot.commands}
        return [command for command in snapshot.pending if command.id not in answered]

    def scale(self, name: str, factor: float, snapshot: Snapshot) -> None:
        """Stage the knob times a factor; a knob at 0 starts from 1e-3."""
        waiting = self.waiting(name, snapshot)
        base = self.value(name, snapshot) if waiting is None else waiting
        scaled = (self.staged.get(name, base) or 1e-3 / factor) * factor
        self.stage(name, float(exact(scaled, 4)))

    def stage(self, name: str, value: object) -> bool:
        """Stage a value, or say why it cannot be one; whether it was staged."""
        try:
            self.staged[name] = self.knobs[name].parse(value)
            self.problem = ""
        except SpecError as error:
            self.problem = str(error)
        return not self.problem

    def stage_previous(self, name: str, snapshot: Snapshot) -> None:
        """Stage the value that the knob had before a person last changed it."""
        rows = [row for row in snapshot.changes if row.name == name and row.source == "command"]
        if rows and rows[-1].old is not None:
            self.stage(name, rows[-1].old)
        else:
            self.problem = f"{name} has no previous value: nobody has changed it; [ ] stage one"

    def drop(self, snapshot: Snapshot) -> bool:
        """Forget what is staged or typed and the answers shown; False if there was nothing."""
        had = bool(self.staged or self.typed or self.problem or self._answers(snapshot))
        self.staged, self.typed, self.problem = {}, "", ""
        self.asked = [sent for sent in self.asked if snapshot.acknowledged(sent) is None]
        return had

    def status(self, snapshot: Snapshot) -> list[Status]:
        """What is staged, the answers to what was sent last, and what waits, newest first."""
        lines = [Status("refused", self.problem)] if self.problem else []
        if self.staged:
            values = ", ".join(
                f"{name} {exact(self.value(name, snapshot), 4)} → {exact(value)}"
                for name, value in self.staged.items()
            )
            lines.append(Status("staged", f"staged {values}: enter sends, esc drops"))
        lines += self._answers(snapshot)
        return lines + [self._waiting(c, snapshot) for c in reversed(self.open(snapshot))]

    def _answers(self, snapshot: Snapshot) -> list[Status]:
        answers = [self._answer(sent, snapshot) for sent in self.asked]
        return [answer for answer in answers if answer]

    def _waiting(self, command: Command, snapshot: Snapshot) -> Status:
        who = "" if command.id in self.sent else f" from {command.client or 'elsewhere'}"
        step = _first_step_with(command, snapshot)
        state = snapshot.state
        if state.ended:
            until = f"the run is {state.word}; taken up if it is resumed"
        elif state.word == "paused" and command.kind == "set":
            until = "waits until the run goes on (p)"
        else:
            until = f"waits for step {step}" if command.kind == "set" else "sent, not taken up yet"
        return Status("waiting", f"{what(command.kind, command.body)}{who}: {until}")

    def _answer(self, command_id: str, snapshot: Snapshot) -> Status | None:
        """What the run answered to a command, as long as that is news."""
        row = snapshot.acknowledged(command_id)
        if row is None:
            return None
        asked = what(row.kind, row.body)
        if row.state == "applied":
            if snapshot.last and snapshot.last.step >= row.step + APPLIED_STEPS:
                return None
            return Status("applied", f"{asked}: applied at step {row.step}")
        return Status("refused", f"{asked}: refused: {row.note}")


def _first_step_with(command: Command, snapshot: Snapshot) -> int:
    """The step that a waiting change takes effect at: a step that runs keeps its values."""
    after, since = (snapshot.last.step, snapshot.last.time) if snapshot.last else (0, 0.0)
    progress = snapshot.progress
    inside = (
        snapshot.state.word == "running" and progress is not None and progress.phase in STEP_PHASES
    )
    return after + (2 if inside and command.sent > since else 1)


def what(kind: str, body: dict[str, object]) -> str:
    """A command in words: `kl_coef 0.1`, `pause`."""
    if kind == "rollback":
        return f"rollback to step {body.get('step')}"
    if kind != "set":
        return kind
    value = body.get("value")
    return f"{body.get('knob')} {exact(value) if isinstance(value, int | float) else value}"
