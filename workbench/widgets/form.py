"""A form generated from a spec: one line a field, its help below, problems beside the field."""

from collections.abc import Iterator
from itertools import groupby
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.events import DescendantFocus
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Select, Static, Switch

from rlhf_engine.runs.sample import printable
from workbench.form_fields import FormField
from workbench.form_model import Form, problem_of
from workbench.keys import Key, bindings

EMPTY = "empty"
LABEL, EDITOR = 22, 20
CHOICE_KEYS = (
    Key("choice.next", "right", "choose(1)", "Next choice", "The next of the words", False),
    Key("choice.before", "left", "choose(-1)", "Choice before", "The word before", False),
    # Up and down walk the form's fields, and so must not open the list as in `Select`.
    Key("choice.down", "down", "screen.field(1)", "Next field", "Next field", False),
    Key("choice.up", "up", "screen.field(-1)", "Field before", "Field before", False),
)


class TextField(Input, inherit_bindings=False):
    """A line of text without the scrolling keys that `Input` takes over for a long text."""

    BINDINGS: ClassVar[list[BindingType]] = [*Input.BINDINGS]

    def on_mount(self) -> None:
        self.cursor_position = 0

    def on_blur(self) -> None:
        # A long text is read from its start.
        self.cursor_position = 0


class Choice(Select[str]):
    """One of a few words; left and right go through them, enter opens the list."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(CHOICE_KEYS)]

    def __init__(self, choices: tuple[str, ...], value: str) -> None:
        super().__init__(
            [(Content(choice), choice) for choice in choices],
            value=value,
            allow_blank=False,
            compact=True,
        )
        self._choices = choices

    def action_choose(self, by: int) -> None:
        place = self._choices.index(str(self.value)) + by
        self.value = self._choices[place % len(self._choices)]


class FieldRow(Horizontal):
    """Label, editor and note of one field."""

    DEFAULT_CSS = """
    FieldRow {
        height: 1;
        & > Input, & > Choice, & > Switch { width: 20; margin-left: 22; }
        &.-no-note > Input { width: 1fr; }
        & > Switch {
            height: 1; border: none; padding: 0; background: transparent;
            &:focus { background-tint: $foreground 15%; }
        }
    }
    """

    class Typed(Message):
        """A person changed a field."""

        def __init__(self, row: "FieldRow", text: str) -> None:
            super().__init__()
            self.row = row
            self.text = text

    def __init__(self, form: Form, stage: int, field: FormField) -> None:
        super().__init__()
        self.form = form
        self.stage = stage
        self.field = field
        self._text = form.text(stage, field)
        self._before: str | None = None
        self._problem: str | None = None
        self.editor = self._make_editor()
        self.set_class(not self._words(), "-no-note")

    def _make_editor(self) -> TextField | Choice | Switch:
        if self.field.choices:
            return Choice(self.field.choices, self._text)
        if self.field.is_switch:
            return Switch(self._text == "true", animate=False)
        return TextField(self._text, placeholder=EMPTY, compact=True)

    def compose(self) -> ComposeResult:
        yield self.editor

    def put(self, text: str) -> None:
        """Show another value in the editor."""
        if isinstance(self.editor, Switch):
            self.editor.value = text == "true"
        else:
            self.editor.value = text

    def mark(self, before: str | None, problem: str | None) -> None:
        """Say that the field differs from the preset's `before`, or what is wrong with it."""
        if (before, problem) != (self._before, self._problem):
            self._before, self._problem = before, problem
            self.set_class(not self._words(), "-no-note")
            self.refresh()

    def _words(self) -> list[str]:
        """What stands behind the editor."""
        if self._problem:
            return [self._problem]
        field, before = self.field, self._before
        words = [f"was {printable(before) or EMPTY}"] if before is not None else []
        words += ["live"] if field.knob else []
        words += [field.unit] if field.unit else []
        words += ["⏎ edit"] if field.shape != "plain" else []
        words += ["on" if self.editor.value else "off"] if field.is_switch else []
        return words

    def render(self) -> Content:
        """Label and note; the editor lies over the gap between them."""
        before, problem, field = self._before, self._problem, self.field
        sign, style, note_style = " ", "", "$text-muted"
        if before is not None:
            sign, style, note_style = "*", "$accent", "$accent"
        if problem:
            sign, style, note_style = "!", "$error", "$error"
        focus = " bold $primary" if self.has_focus_within and not problem else ""
        label = f"{sign} {field.label}".ljust(LABEL + EDITOR + 1)
        room = max(1, self.size.width - len(label))
        note = Content(" · ".join(self._words())).truncate(room, ellipsis=True)
        return Content.assemble((label, style + focus), note.stylize(note_style))

    @on(Input.Changed)
    @on(Select.Changed)
    def _typed(self, event: Input.Changed | Select.Changed) -> None:
        event.stop()
        self.post_message(self.Typed(self, str(event.value)))

    @on(Switch.Changed)
    def _switched(self, event: Switch.Changed) -> None:
        event.stop()
        self.refresh()
        self.post_message(self.Typed(self, "true" if event.value else "false"))


class FormView(VerticalScroll, can_focus=False, inherit_bindings=False):
    """The fields of one stage of a form, in groups."""

    DEFAULT_CSS = """
    FormView {
        scrollbar-size-vertical: 1;
        & > .group { margin-top: 1; color: $primary; text-style: bold; padding-left: 1; }
        & > .group.-first { margin-top: 0; }
        & > .group.-wrong { color: $error; }
    }
    """

    form: Form | None = None
    stage: int = 0
    current: FieldRow | None = None

    async def show(self, form: Form, stage: int) -> None:
        """Put other fields in place of those that are shown."""
        self.form, self.stage, self.current = form, stage, None
        with self.app.batch_update():
            await self.remove_children()
            await self.mount_all(self._lines(form, stage))
            self.scroll_home(animate=False)
        self.mark({})

    def _lines(self, form: Form, stage: int) -> Iterator[Widget]:
        groups = groupby(form.fields(stage), key=lambda field: field.group)
        for place, (group, fields) in enumerate(groups):
            title = Static(Content(group or "run"), name=group, classes="group")
            title.set_class(place == 0, "-first")
            yield title
            for field in fields:
                yield FieldRow(form, stage, field)

    @property
    def rows(self) -> list[FieldRow]:
        return list(self.query(FieldRow))

    def row(self, key: str) -> FieldRow:
        """The row of a field by its dotted path."""
        return next(row for row in self.rows if row.field.key == key)

    def mark(self, problems: dict[tuple[int, str], str]) -> None:
        """Show what has changed and what is wrong beside each field."""
        if self.form is None:
            return
        for row in self.rows:
            changed = self.form.is_changed(row.stage, row.field)
            before = self.form.before(row.stage, row.field) if changed else None
            row.mark(before, problem_of(problems, row.stage, row.field))
        for title in self.query(".group").results(Static):
            # What is wrong with the whole, under the empty key, belongs to no table.
            problem = problems.get((self.stage, title.name)) if title.name else None
            title.set_class(problem is not None, "-wrong")
            text = title.name or "run"
            title.update(Content(f"{text}  ! {printable(problem)}" if problem else text))

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        for widget in event.widget.ancestors_with_self:
            if isinstance(widget, FieldRow):
                self.current = widget

    def enter(self) -> None:
        """Focus the field that was left last, or the first one."""
        rows = self.rows
        if rows:
            (self.current or rows[0]).editor.focus()

    def walk(self, by: int) -> None:
        """Focus the field so many lines further, as far as there are any."""
        rows = self.rows
        if self.current in rows:
            place = rows.index(self.current) + by
            rows[min(len(rows) - 1, max(0, place))].editor.focus()


def help_text(field: FormField, problem: str | None) -> Content:
    """What a field is, its bounds and unit, and what is wrong with what was typed."""
    facts = [field.bounds] if field.bounds else []
    facts += [f"one of {', '.join(field.choices)}"] if field.choices else []
    facts += [field.unit] if field.unit else []
    facts += [f"live: can be changed while it runs ({field.knob})"] if field.knob else []
    parts: list[Content | tuple[str, str]] = [
        (field.key, "bold"),
        Content("  "),
        Content(field.help),
    ]
    if facts:
        parts.append(("  " + " · ".join(facts), "$text-muted"))
    if problem:
        parts.insert(0, (f"! {problem}\n", "$error"))
    return Content.assemble(*parts)
