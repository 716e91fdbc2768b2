"""Editing a list or a table of the form over several lines, as TOML or JSON."""

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static, TextArea

from rlhf_engine.runs.sample import printable
from workbench.form_fields import FormField
from workbench.keys import Key, bindings
from workbench.screens.dialog import Dialog

EDIT_KEYS = (
    Key("value.keep", "ctrl+s,ctrl+g", "keep", "Keep", "Put the text into the form"),
    Key("value.undo", "ctrl+t", "undo", "Undo", "Take back what was typed last"),
    Key("value.drop", "escape", "drop", "Drop", "Leave the form as it was"),
)


class EditValue(Dialog[str | None]):
    """Gives the text of a field; `judge` says what the spec has against one, as it is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(EDIT_KEYS)]
    DEFAULT_CSS = """
    EditValue {
        align: center middle;
        & > Vertical {
            width: 92%; height: 80%; padding: 0 1; border: round $primary; background: $surface;
        }
        TextArea { height: 1fr; }
        #about, #verdict { height: auto; max-height: 8; }
        #about { color: $text-muted; }
    }
    """

    def __init__(self, field: FormField, text: str, judge: Callable[[str], str | None]) -> None:
        super().__init__()
        self._field, self._text, self._judge = field, text, judge

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Content(self._field.key)
            box.border_subtitle = "ctrl+s keeps · esc drops"
            yield Static(Content(_about(self._field)), id="about")
            yield TextArea(self._field.lines(self._text))
            yield Static(id="verdict")

    def on_mount(self) -> None:
        self.query_one(TextArea).focus()
        self._tell()

    @on(TextArea.Changed)
    def _tell(self) -> None:
        problem = self._problem(self.query_one(TextArea).text)
        words = (f"! {printable(problem)}", "$error") if problem else ("valid", "$success")
        self.query_one("#verdict", Static).update(Content.styled(*words))

    def _problem(self, text: str) -> str | None:
        return self._field.fault(text) or self._judge(text)

    def action_keep(self) -> None:
        text = self.query_one(TextArea).text
        # On its one line the form could not show what is no TOML yet.
        if self._field.fault(text):
            self.notify("put the writing right first, or drop it with esc", severity="error")
        else:
            self.dismiss(self._field.override(text))

    def action_undo(self) -> None:
        self.query_one(TextArea).undo()

    def action_drop(self) -> None:
        self.dismiss(None)


def _about(field: FormField) -> str:
    """What the field is, how it is written, and what each entry holds."""
    how = {
        "list": 'A list, as TOML or JSON: ["one", "two"]',
        "table": 'One line an entry, as TOML: key = "value"; or JSON',
    }
    if field.inside:
        example = ", ".join(f"{inner.label} = …" for inner in field.inside)
        how["list"] = f"A list of tables, as TOML or JSON: [{{{example}}}]"
    lines = [field.help, how.get(field.shape, "")]
    for inner in field.inside:
        facts = " · ".join(fact for fact in (inner.bounds, inner.unit, *inner.choices) if fact)
        lines.append(f"  {inner.label}: {inner.help}{f'  {facts}' if facts else ''}")
    return "\n".join(lines)
