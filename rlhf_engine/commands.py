"""Commands of one run at its step boundaries: taken up exactly once, acknowledged with a step."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.knobs import check_change, find_knob, knob_values, planned_changes
from rlhf_engine.job.spec import Spec
from rlhf_engine.runs import inbox
from rlhf_engine.runs.inbox import BadCommand, Command
from rlhf_engine.runs.schema import STANDING
from rlhf_engine.runs.writer import StoreWriter

# What a pause between two phases is for; all else waits until the step is done.
AT_ONCE = frozenset({"pause", "stop", "rollback"})


@dataclass(frozen=True)
class Change:
    """A knob's new value from a step on.

    `source` is config, controller, guard, schedule or command.
    """

    name: str
    new: float
    source: str
    command_id: str = ""
    old: float | None = None


@dataclass
class Desk:
    """Reads the inbox, changes knobs, and writes acknowledgements into the store.

    A `set` is acknowledged by `commit`, inside the transaction of the step that ran with it; if
    the engine dies before, its file is still there and is taken up again.

    At each step the controller's moves come first, then those of guards, then what was planned in
    the spec, then what people ask for.
    """

    spec: Spec
    store: StoreWriter
    folder: Path
    knobs: dict[str, float] = field(init=False)
    stop_asked: bool = False
    checkpoint_asked: bool = False
    rollback_asked: Command | None = None
    questions: list[Command] = field(default_factory=list)
    paused: bool = False
    _plan: dict[int, list[Change]] = field(default_factory=dict)
    _opened: int = -1
    _moves: dict[str, float] = field(default_factory=dict)
    _guarded: dict[str, float] = field(default_factory=dict)
    _ran: dict[str, float] = field(default_factory=dict)
    _changes: list[Change] = field(default_factory=list)
    _taken: dict[str, Command] = field(default_factory=dict)
    _redo_until: int = 0

    def start(
        self,
        after: int,
        values: Mapping[str, float] | None,
        moves: Mapping[str, float] | None = None,
        guarded: Mapping[str, float] | None = None,
    ) -> None:
        """Go on after a step with the knob values that it ran with, and the moves of controllers
        and guards.

        Without values, those of the spec. A step that was committed and is done again runs with
        the changes that it had.
        """
        self.knobs = knob_values(self.spec)
        self._changes, self._taken, self._opened = [], {}, -1
        if values is None:
            self._changes = [Change(name, new, "config") for name, new in self.knobs.items()]
        else:
            self.knobs |= values
        self._ran = dict(self.knobs)
        self._moves, self._guarded = dict(moves or {}), dict(guarded or {})
        self._redo_until = self.store.last_step(to_redo=True)
        self._plan = {
            step: [Change(name, value, "schedule") for name, value in planned]
            for step, planned in planned_changes(self.spec).items()
            if step > after
        }
        for step, change in self._asked_before(after):
            if change not in self._plan.setdefault(step, []):
                self._plan[step].append(change)

    def _asked_before(self, after: int) -> Iterable[tuple[int, Change]]:
        """What people changed at later steps, which earlier sessions have committed."""
        rows = self.store.query(
            "SELECT step, name, new, source, command_id FROM knobs"
            f" WHERE step > ? AND source = 'command' AND {STANDING.format(table='knobs')}"
            " ORDER BY seq",
            after,
        )
        return [(step, Change(*rest)) for step, *rest in rows]

    @property
    def ran(self) -> dict[str, float]:
        """The knob values of the last step."""
        return dict(self._ran)

    def state(self) -> dict[str, dict[str, float]]:
        """What `start` needs to go on from here: nothing that people asked for since."""
        return {"knobs": self._ran, "moves": self._moves, "guarded": self._guarded}

    def interrupts(self) -> bool:
        """Whether a pause, stop or rollback waits in the inbox."""
        return any(command.kind in AT_ONCE for command in inbox.pending(self.folder))

    def open_step(self, step: int) -> None:
        """Take up what waits: knob changes for this step, everything else at once.

        What was sent after a rollback is for the step after that.
        """
        if step != self._opened:
            self._opened = step
            moved = [Change(name, value, "controller") for name, value in self._moves.items()]
            guarded = [Change(name, value, "guard") for name, value in self._guarded.items()]
            for change in (*moved, *guarded, *self._plan.get(step, ())):
                self._change(change)
        for path in inbox.waiting(self.folder):
            self._take(path, step)
            if self.rollback_asked:
                break

    def _take(self, path: Path, step: int) -> None:
        try:
            command = inbox.read(path)
        except BadCommand as error:
            self.refuse(Command(path.stem, "set", {}, "", time.time()), step, str(error))
            return
        if self.store.has_command(command.id):
            path.unlink(missing_ok=True)
        elif command.kind == "set":
            self._set(command, step)
        else:
            self._obey(command, step)

    def _set(self, command: Command, step: int) -> None:
        # A step that was committed before a crash is redone as it was: new values come after it.
        if command.id in self._taken or self.paused or self.is_redone(step):
            return
        try:
            knob = find_knob(type(self.spec), str(command.body.get("knob")))
            value = knob.parse(command.body.get("value"))
            check_change(self.spec, knob, value)
        except SpecError as error:
            self.refuse(command, step, str(error))
            return
        self._taken[command.id] = command
        self._change(Change(knob.name, value, "command", command.id))

    def _change(self, change: Change) -> None:
        self._changes.append(replace(change, old=self.knobs[change.name]))
        self.knobs[change.name] = change.new

    def _obey(self, command: Command, step: int) -> None:
        done = step - 1
        match command.kind:
            case "pause" if self.paused:
                self.refuse(command, done, "it is paused already")
                return
            case "resume" if not self.paused:
                self.refuse(command, done, "it is not paused")
                return
            case "pause":
                self.paused = True
            case "resume":
                self.paused = False
            case "rollback":
                self.rollback_asked = command
                return
            case "sample" | "evaluate":
                self.questions.append(command)
                return
            case "checkpoint":
                self.checkpoint_asked = True
            case "stop":
                self.stop_asked, self.paused = True, False
        self._acknowledge(command, "applied", done)

    def _acknowledge(
        self,
        command: Command,
        state: str,
        step: int,
        note: str = "",
        write: Callable[[], None] = lambda: None,
    ) -> None:
        with self.store.transaction():
            write()
            self.store.command(command, state, step, note)
            self.store.event(step, "info", "command", _sentence(command, state, note))
        self._unlink(command.id)

    def answer(self, command: Command, step: int, note: str, write: Callable[[], None]) -> None:
        """Acknowledge a question together with its answer, which `write` puts into the store."""
        self._acknowledge(command, "applied", step, note, write)

    def refuse(self, command: Command, step: int, why: str) -> None:
        """Answer a command that cannot be obeyed."""
        self._acknowledge(command, "rejected", step, why)

    def steer(self, moves: Mapping[str, float], guarded: Mapping[str, float]) -> None:
        """Let a controller, then guards move knobs for the next step; people come after them."""
        self._moves = {name: new for name, new in moves.items() if new != self.knobs[name]}
        self._guarded = dict(guarded)

    def is_redone(self, step: int) -> bool:
        """Whether the step was committed before and is done again after a crash."""
        return step <= self._redo_until

    def commit(self, step: int) -> list[str]:
        """Write the step's knob changes and acknowledgements; inside the step's transaction."""
        for change in self._changes:
            self.store.knob(
                step, change.name, change.old, change.new, change.source, change.command_id
            )
        for command in self._taken.values():
            self.store.command(command, "applied", step)
        taken = list(self._taken)
        self._changes, self._taken = [], {}
        self._ran, self._moves, self._guarded = dict(self.knobs), {}, {}
        return taken

    def clear(self, taken: list[str]) -> None:
        """Unlink the files of acknowledged commands; after the transaction."""
        for command_id in taken:
            self._unlink(command_id)

    def close(self, step: int, why: str) -> None:
        """Refuse what still waits when a run is over for good."""
        for command in inbox.pending(self.folder):
            if not self.store.has_command(command.id):
                self.refuse(command, step, why)

    def _unlink(self, command_id: str) -> None:
        (self.folder / f"{command_id}.json").unlink(missing_ok=True)


def _sentence(command: Command, state: str, note: str) -> str:
    who = f" from {command.client}" if command.client else ""
    return f"{command.kind}{who} {state}{': ' + note if note else ''}"
