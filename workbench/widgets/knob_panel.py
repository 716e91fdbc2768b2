"""The knobs of a run: values, what is staged, what waits, who changed them last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content, Span
from textual.events import Key as KeyPressed
from textual.message import Message
from textual.widgets import Static

from rlhf_engine.runs.sample import printable
from workbench.feed import Snapshot
from workbench.format import exact
from workbench.keys import Key, bindings
from workbench.widgets.steering import Status, Steering, Tone

TONES: dict[Tone, str] = {
    "staged": "bold $accent",
    "waiting": "$accent",
    "applied": "$primary",
    "refused": "bold $error",
    "plain": "",
}
PANEL_KEYS = (
    Key("knobs.up", "up,k", "choose(-1)", "Knob above", "Choose the knob above", show=False),
    Key("knobs.down", "down,j", "choose(1)", "Knob below", "Choose the knob below", show=False),
)
# Digits are keys of the whole program: the panel takes them for a value while it is focused.
STARTS_NUMBER = frozenset("0123456789.")
IN_NUMBER = STARTS_NUMBER | frozenset("e-+")


class KnobPanel(Static, can_focus=True):
    """A line a knob, then lines on what was asked for; typing a number while it is focused."""

    DEFAULT_CSS = """
    KnobPanel {
        border: round $panel; padding: 0 1; height: auto; border-title-color: $foreground;
    }
    KnobPanel:focus { border: round $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(PANEL_KEYS)]

    @dataclass
    class Edited(Message):
        """Something was chosen, typed or staged here."""

    def __init__(self, steering: Steering, id: str) -> None:
        super().__init__(id=id)
        self.steering = steering
        self._names = list(steering.knobs)
        self._chosen = "kl_coef" if "kl_coef" in self._names else self._names[0]
        self._told: tuple[str, Sequence[Span]] = ("", [])
        self.border_title = "knobs"

    @property
    def target(self) -> str:
        """The knob that staging keys act on: the chosen one while focused, else the main one."""
        if self.has_focus:
            return self._chosen
        return "kl_coef" if "kl_coef" in self._names else self._names[0]

    def action_choose(self, by: int) -> None:
        index = self._names.index(self._chosen) + by
        self._chosen = self._names[index % len(self._names)]
        self.steering.typed = ""
        self.post_message(self.Edited())

    def on_key(self, event: KeyPressed) -> None:
        character, typed = event.character or "", self.steering.typed
        if character and character in (IN_NUMBER if typed else STARTS_NUMBER):
            self.steering.typed = typed + character
        elif typed and event.key == "backspace":
            self.steering.typed = typed[:-1]
        else:
            return
        event.stop()
        event.prevent_default()
        self.post_message(self.Edited())

    def finish_typing(self) -> bool:
        """Stage what was typed; False if that is no value for the knob."""
        typed, self.steering.typed = self.steering.typed, ""
        return not typed or self.steering.stage(self._chosen, typed)

    def show(self, snapshot: Snapshot) -> None:
        lines = [self._line(name, snapshot) for name in self._names]
        if changed := self._last_change(snapshot):
            lines.append(Content.styled(changed, "$text-muted"))
        lines += [said(status) for status in self.steering.status(snapshot)[:4]]
        if self.has_focus:
            knob = self.steering.knobs[self._chosen]
            unit = f" · {knob.unit}" if knob.unit else ""
            lines.append(Content.styled(f"{knob.bounds}{unit}", "bold"))
            lines.append(Content.styled(" ".join(knob.help.split()), "$text-muted"))
        told = Content("\n").join(lines)
        # Contents are equal whatever their styles are.
        if (told.plain, told.spans) != self._told:
            self._told = (told.plain, told.spans)
            self.update(told)

    def _line(self, name: str, snapshot: Snapshot) -> Content:
        steering, chosen = self.steering, self.has_focus and name == self._chosen
        parts: list[tuple[str, str]] = [
            ("▸ " if chosen else "  ", "bold $primary"),
            (f"{'β ' if name == 'kl_coef' else ''}{name}".ljust(14), "bold" if chosen else ""),
            (exact(steering.value(name, snapshot), 4).rjust(8), ""),
        ]
        waiting, staged = steering.waiting(name, snapshot), steering.staged.get(name)
        if chosen and steering.typed:
            parts.append((f" ▏{steering.typed}█", "bold $accent"))
        elif staged is not None:
            parts.append((f" → {exact(staged)} staged", TONES["staged"]))
        elif waiting is not None:
            parts.append((f" → {exact(waiting)} waiting", TONES["waiting"]))
        return Content.assemble(*parts)

    def _last_change(self, snapshot: Snapshot) -> str:
        """Who moved a knob last, the chosen one while focused."""
        names = (self._chosen,) if self.has_focus else self._names
        rows = [r for r in snapshot.changes if r.name in names and r.source != "config"]
        if not rows:
            return ""
        row = rows[-1]
        command = snapshot.acknowledged(row.command_id)
        who = (command.client if command else "") or row.source
        old = exact(row.old, 4) if row.old is not None else "–"
        return printable(f"{row.name} {old} → {exact(row.new, 4)} at step {row.step} by {who}")


def said(status: Status) -> Content:
    """A status line in its tone; the words alone say it too."""
    return Content.styled(printable(status.text), TONES[status.tone])
