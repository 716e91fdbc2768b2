"""Keys: one table drives dispatch, footer and help."""

from dataclasses import dataclass

from textual.binding import Binding


@dataclass(frozen=True)
class Key:
    """One key of a screen; `id` is what a person's keymap refers to."""

    id: str
    keys: str
    action: str
    label: str
    help: str
    show: bool = True

    def binding(self) -> Binding:
        return Binding(
            self.keys, self.action, self.label, show=self.show, tooltip=self.help, id=self.id
        )
