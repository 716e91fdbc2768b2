"""Commands of one run at its step boundaries: taken up exactly once, acknowledged with a step."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.knobs import check_change, find_knob, knob_values
from rlhf_engine.job.spec import Spec
from rlhf_engine.runs import inbox
from rlhf_engine.runs.inbox import BadCommand, Command
from rlhf_engine.runs.writer import StoreWriter


@dataclass(frozen=True)
class Change:
    """A knob's new value, from the step in which it is committed on."""

    name: str
    old: float | None
    new: float
    source: str
    command_id: str = ""


@dataclass
class Desk:
    """Reads the inbox, changes knobs, and writes acknowledgements into the store.

    A `set` is acknowledged by `commit`, inside the transaction of the step that ran with it; if
    the engine dies before, its file is still there and is taken up again.
    """

    spec: Spec
    store: StoreWriter
    folder: Path
    knobs: dict[str, float] = field(init=False)
    stop_asked: bool = False
    checkpoint_asked: bool = False
    paused: bool = False
    _changes: list[Change] = field(default_factory=list)
    _taken: dict[str, Command] = field(default_factory=dict)
    _replay: dict[int, list[Change]] = field(default_factory=dict)
    _redo_until: int = 0

    def __post_init__(self) -> None:
        self.knobs = knob_values(self.spec)

    def start(self, after: int, values: Mapping[str, float] | None) -> None:
        """Take the knob values of a checkpoint, and redo later changes at their steps.

        A step that was committed and is done again must run with the knobs it had.
        """
        if values is None:
            for name, value in self.knobs.items():
                self._changes.append(Change(name, None, value, "config"))
        else:
            self.knobs |= values
        self._redo_until = self.store.query("SELECT max(step) FROM steps")[0][0] or 0
        rows = self.store.query(
            "SELECT step, name, old, new, source, command_id FROM knobs"
            " WHERE step > ? AND source = 'command' ORDER BY seq",
            after,
        )
        for step, name, old, new, source, command_id in rows:
            change = Change(name, old, new, source, command_id)
            if change not in self._replay.setdefault(step, []):
                self._replay[step].append(change)

    def interrupts(self) -> bool:
        """Whether a pause or stop waits in the inbox."""
        kinds = {command.kind for command in inbox.pending(self.folder)}
        return bool(kinds & {"pause", "stop"})

    def open_step(self, step: int) -> None:
        """Take up what waits: knob changes for this step, everything else at once."""
        for change in self._replay.pop(step, []):
            self._change(change.name, change.new, change.source, change.command_id)
        for path in inbox.waiting(self.folder):
            self._take(path, step)

    def _take(self, path: Path, step: int) -> None:
        try:
            command = inbox.read(path)
        except BadCommand as error:
            bad = Command(path.stem, "set", {}, "", time.time())
            self._acknowledge(bad, "rejected", step, str(error))
            return
        if self.store.has_command(command.id):
            path.unlink(missing_ok=True)
        elif command.kind == "set":
            self._set(command, step)
        else:
            self._obey(command, step)

    def _set(self, command: Command, step: int) -> None:
        # A step that was committed before a crash is redone as it was: new values come after it.
        if command.id in self._taken or self.paused or step <= self._redo_until:
            return
        try:
            knob = find_knob(type(self.spec), str(command.body.get("knob")))
            value = knob.parse(command.body.get("value"))
            check_change(self.spec, knob, value)
        except SpecError as error:
            self._acknowledge(command, "rejected", step, str(error))
            return
        self._taken[command.id] = command
        self._change(knob.name, value, "command", command.id)

    def _change(self, name: str, value: float, source: str, command_id: str = "") -> None:
        self._changes.append(Change(name, self.knobs[name], value, source, command_id))
        self.knobs[name] = value

    def _obey(self, command: Command, step: int) -> None:
        done = step - 1
        match command.kind:
            case "pause" if self.paused:
                self._acknowledge(command, "rejected", done, "it is paused already")
                return
            case "resume" if not self.paused:
                self._acknowledge(command, "rejected", done, "it is not paused")
                return
            case "pause":
                self.paused = True
            case "resume":
                self.paused = False
            case "checkpoint":
                self.checkpoint_asked = True
            case "stop":
                self.stop_asked, self.paused = True, False
        self._acknowledge(command, "applied", done)

    def _acknowledge(self, command: Command, state: str, step: int, note: str = "") -> None:
        with self.store.transaction():
            self.store.command(command, state, step, note)
            self.store.event(step, "info", "command", _sentence(command, state, note))
        self._unlink(command.id)

    def steer(self, changes: Mapping[str, float]) -> None:
        """Let a controller move knobs for the next step; a person's change comes after it."""
        for name, value in changes.items():
            if value != self.knobs[name]:
                self._change(name, value, "controller")

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
        return taken

    def clear(self, taken: list[str]) -> None:
        """Unlink the files of acknowledged commands; after the transaction."""
        for command_id in taken:
            self._unlink(command_id)

    def close(self, step: int, why: str) -> None:
        """Refuse what still waits when a run is over for good."""
        for command in inbox.pending(self.folder):
            if not self.store.has_command(command.id):
                self._acknowledge(command, "rejected", step, why)

    def _unlink(self, command_id: str) -> None:
        (self.folder / f"{command_id}.json").unlink(missing_ok=True)


def _sentence(command: Command, state: str, note: str) -> str:
    who = f" from {command.client}" if command.client else ""
    return f"{command.kind}{who} {state}{': ' + note if note else ''}"
