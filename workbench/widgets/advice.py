"""What a guard advises now: the newest firing of a rule that nobody has answered yet."""

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_engine.job.watch import Guard
from rlhf_engine.runs.reader import EventRow
from workbench.feed import Snapshot
from workbench.format import exact


@dataclass(frozen=True)
class Advice:
    """Why, what, and the key that does it; `knob` and `value` where there is one to stage."""

    why: str
    what: str
    key: str
    knob: str = ""
    value: float = 0.0

    @property
    def short(self) -> str:
        """What a line among others has room for."""
        what = f"{self.knob} → {exact(self.value)}" if self.knob else self.what
        return f"guard: {what} ({self.key[:1]})"

    @property
    def long(self) -> str:
        return f"guard: {self.why}: {self.what}: {self.key}"


def advice(guards: Sequence[Guard], snapshot: Snapshot) -> Advice | None:
    """The newest advice that still holds: its rule does, and its knob is as it was."""
    if snapshot.state.ended or snapshot.last is None:
        return None
    for event in reversed(snapshot.events):
        if event.kind == "guard" and not snapshot.is_history(event):
            rule = event.data.get("rule")
            if not isinstance(rule, int) or not 0 <= rule < len(guards):
                continue
            if event.data.get("mode") == "advise" and _holds(guards[rule], event, snapshot):
                return _advice(guards[rule], event, snapshot)
    return None


def _advice(guard: Guard, event: EventRow, snapshot: Snapshot) -> Advice | None:
    first = (event.data.get("steps") or [event.step])[0]
    span = f"steps {first} to {event.step}" if event.step > first else f"step {event.step}"
    why = f"{guard.condition} in {span}"
    new = event.data.get("new")
    if guard.knob is not None and isinstance(new, int | float):
        old = event.data.get("old")
        if new == old:
            return Advice(why, f"{guard.knob} stays {exact(new)}", "L shows the log")
        was = f"{exact(old)} → " if isinstance(old, int | float) else ""
        return Advice(why, f"{guard.knob} {was}{exact(new)}", "a stages it", guard.knob, new)
    if guard.action == "pause":
        return None if snapshot.state.word == "paused" else Advice(why, "pause", "p pauses")
    return Advice(why, f"go back to before step {first}", "b goes back")


def _holds(guard: Guard, event: EventRow, snapshot: Snapshot) -> bool:
    """Whether the rule holds at the last step that reports its figure, and nobody has acted."""
    if any(row.name == guard.knob and row.step > event.step for row in snapshot.changes):
        return False
    for row in reversed(snapshot.steps):
        if (figure := row.metrics.get(guard.metric)) is not None:
            return guard.holds(figure, row.knobs)
    return False
