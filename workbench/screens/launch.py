"""A new run: choose a preset, change fields, see the command line, launch."""

from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import DescendantFocus
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Button, Input, OptionList, Select, Static
from textual.widgets.option_list import Option

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import Preset, own_presets
from rlhf_engine.job.spec import Spec
from rlhf_engine.runs.directory import RunDir, RunNotFound
from rlhf_engine.runs.launch import launch
from rlhf_engine.runs.sample import printable
from workbench.form_model import NAME, Form, Verdict, problem_of
from workbench.form_sources import offered, spec_file, titles
from workbench.keys import bindings
from workbench.own_presets import save_preset
from workbench.screens.confirm import ConfirmScreen
from workbench.screens.edit_value import EditValue
from workbench.screens.launch_keys import LAUNCH_KEYS
from workbench.screens.name_preset import NamePreset
from workbench.widgets.form import FieldRow, FormView, help_text
from workbench.widgets.form_facts import Facts
from workbench.widgets.form_parts import StageRow, summary
from workbench.widgets.key_line import KeyLine
from workbench.widgets.text_page import TextPage

# So many stages that do not fit are explained when Launch asks.
ASKED = 2


class LaunchScreen(Screen[None]):
    """Launch a preset, or with `spec` the like of a run; `preset` may also be a file."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(LAUNCH_KEYS)]
    AUTO_FOCUS = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    CSS_PATH = "launch.tcss"

    def __init__(self, home: Path, preset: str | None = None, spec: Spec | None = None) -> None:
        super().__init__()
        self.home = home
        self.forms: dict[str, Form] = {}
        self.form: Form | None = None
        self.stage = 0
        self.verdict = Verdict(None, {})
        given = preset or (spec_file(home, spec) if spec else None)
        self._is_lost = spec is not None and given is None
        self._sources = offered(home, given)
        self._first = given or (self._sources[0] if self._sources else None)

    def compose(self) -> ComposeResult:
        named = list(titles(self.home, self._sources))
        choices = [(Content(title), source) for source, title in named]
        yield Select(choices, prompt="preset", compact=True, id="preset")
        with Horizontal(id="body"):
            with Vertical(id="left") as left:
                left.border_title = "presets"
                options = [Option(Content(title), id=source) for source, title in named]
                yield OptionList(*options, id="presets", markup=False)
                yield Static(id="about")
            with Vertical(id="middle"):
                yield StageRow()
                yield FormView()
                yield Static(id="help")
            with Vertical(id="right"):
                yield Facts(self.home)
                with Horizontal(id="start"):
                    yield Input(id="name", compact=True, placeholder="name of the run")
                    yield Button("Launch", id="launch", variant="primary", compact=True)
        yield KeyLine()

    def _refuse(self, reason: str) -> None:
        self.notify(printable(reason), severity="error", markup=False)

    async def on_mount(self) -> None:
        if self._is_lost:
            self._refuse("the run was deleted: choose a preset instead")
        if self._first is None:
            self._refuse("there are no presets; give a file: workbench run FILE")
            return
        await self.choose(self._first)
        self.query_one(FormView).enter()

    async def choose(self, source: str) -> None:
        """Show a preset's form with whatever was typed into it before."""
        if self.form and self.form.source == source:
            return
        try:
            self.form = self.forms.get(source) or Form.open(source, self.home)
        except SpecError as error:
            self._refuse(str(error))
            return
        self.forms[source] = self.form
        name = self.query_one("#name", Input)
        name.placeholder = printable(self.form.default_name)
        name.value = self.form.name
        self.query_one("#about", Static).update(Content(printable(self.form.base.about)))
        self.query_one("#presets", OptionList).highlighted = self._sources.index(source)
        self.query_one("#preset", Select).value = source
        await self._edit(0)

    async def _edit(self, stage: int) -> None:
        if self.form:
            self.stage = stage
            await self.query_one(FormView).show(self.form, stage)
            self._judge()

    @on(OptionList.OptionHighlighted, "#presets")
    async def _preset_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_id and self.query_one("#presets").has_focus:
            await self.choose(event.option_id)

    @on(OptionList.OptionSelected, "#presets")
    def _preset_selected(self) -> None:
        self.query_one(FormView).enter()

    @on(Select.Changed, "#preset")
    async def _preset_chosen(self, event: Select.Changed) -> None:
        if isinstance(event.value, str):
            await self.choose(event.value)

    @on(StageRow.Chosen)
    async def _stage_chosen(self, event: StageRow.Chosen) -> None:
        if event.stage != self.stage:
            await self._edit(event.stage)

    @on(FieldRow.Typed)
    def _typed(self, event: FieldRow.Typed) -> None:
        row, form = event.row, self.form
        # An editor also reports the value that it is mounted with.
        if form and row.form is form and event.text != form.text(row.stage, row.field):
            form.type(row.stage, row.field, event.text)
            self._judge()

    @on(Input.Changed, "#name")
    def _named(self, event: Input.Changed) -> None:
        if self.form:
            self.form.name = event.value
            self._judge()

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        row = self.query_one(FormView).current
        if event.input.id == "name":
            self.query_one("#launch").focus()
        elif row and row.field.shape != "plain":
            self._edit_value(row)
        else:
            self.query_one(FormView).walk(1)

    def _edit_value(self, row: FieldRow) -> None:
        """Open an editor of several lines for a list or a table."""
        form, stage, field = row.form, row.stage, row.field

        def keep(text: str | None) -> None:
            if text is not None:
                row.put(text)

        judge = partial(form.problem_with, stage, field)
        self.app.push_screen(EditValue(field, form.text(stage, field), judge), keep)

    def _judge(self) -> None:
        """Ask the spec again, and show everything that follows from the answer."""
        form = self.form
        if form is None:
            return
        self.verdict = form.check()
        self.query_one(FormView).mark(self.verdict.problems)
        self.query_one(Facts).show(form, self.stage, self.verdict)
        self.query_one("#name").set_class((0, NAME) in self.verdict.problems, "-invalid")
        self._show_stages()
        self._explain()

    @on(Facts.Changed)
    def _show_stages(self) -> None:
        if self.form:
            lacking = self.query_one(Facts).lacking
            self.query_one(StageRow).show(self.form, self.stage, self.verdict, lacking)

    def _explain(self) -> None:
        row = self.query_one(FormView).current
        if row:
            problem = problem_of(self.verdict.problems, row.stage, row.field)
            self.query_one("#help", Static).update(help_text(row.field, problem))

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        self._explain()

    def action_pane(self, by: int) -> None:
        form = self.query_one(FormView)
        panes: list[Widget] = [
            pane
            for pane in self.query("#presets, #preset, StageRow, FormView, #facts, #name, #launch")
            if pane.display and (pane is form or pane.focusable)
        ]
        here = next((p for p in panes if p.has_focus or p.has_focus_within), None)
        place = (panes.index(here) + by) % len(panes) if here else 0
        if panes[place] is form:
            form.enter()
        else:
            panes[place].focus()

    def action_field(self, by: int) -> None:
        form = self.query_one(FormView)
        form.walk(by) if form.has_focus_within else form.enter()

    async def action_stage(self, by: int) -> None:
        if self.form:
            within = self.query_one(FormView).has_focus_within
            await self._edit((self.stage + by) % len(self.form.base.stages))
            if within:
                self.query_one(FormView).enter()

    def action_undo(self) -> None:
        form = self.query_one(FormView)
        if self.form and form.current and form.has_focus_within:
            row = form.current
            self.form.undo(row.stage, row.field)
            row.put(self.form.before(row.stage, row.field))
            self._judge()

    def action_copy(self) -> None:
        if self.form:
            self.app.copy_to_clipboard(self.form.command(self.verdict.preset))
            self.notify("copied the command line", markup=False)

    def action_validate(self) -> None:
        """Let the engine look at model, data and rewards, and estimate once more."""
        self._judge()
        if preset := self._valid():
            self.query_one(Facts).check(preset)

    def action_details(self) -> None:
        """Everything that is known, with whole tables and examples, on a page of its own."""
        if self.form:
            self.app.push_screen(TextPage(self.form.source, self.query_one(Facts).report))

    def action_save(self) -> None:
        """Save what would be launched as a preset of one's own, under a name that is asked for."""
        form = self.form
        self._judge()
        if form is None or (preset := self._valid()) is None:
            return

        async def named(name: str | None) -> None:
            if name:
                await self._save(form, preset, name)

        stem = Path(form.source).stem
        name = form.title or (stem if form.source in own_presets(self.home) else f"{stem}-mine")
        self.app.push_screen(NamePreset(self.home, name), named)

    async def _save(self, form: Form, preset: Preset, name: str) -> None:
        try:
            path = save_preset(form, preset, name)
        except (SpecError, OSError) as error:
            self._refuse(f"not saved: {error}")
            return
        # What was typed is the new preset's now.
        for source in (form.source, name):
            self.forms.pop(source, None)
        self.form = None
        await self._offer(name)
        self.notify(f"saved as {path}", markup=False)

    async def _offer(self, name: str) -> None:
        """List the presets anew, and show one of them."""
        self._sources = offered(self.home, None)
        named = list(titles(self.home, self._sources))
        listed = self.query_one("#presets", OptionList)
        listed.clear_options()
        listed.add_options(Option(Content(title), id=source) for source, title in named)
        choices = [(Content(title), source) for source, title in named]
        self.query_one("#preset", Select).set_options(choices)
        await self.choose(name)
        self.query_one(FormView).enter()

    def _valid(self) -> Preset | None:
        """What the form would launch; tells the person why not where it is not valid."""
        if self.form and self.verdict.preset is None:
            self._refuse(summary(self.form, self.verdict, (), False).plain)
        return self.verdict.preset

    @on(Button.Pressed, "#launch")
    def action_launch(self) -> None:
        # The files that a spec names may have changed since the last key.
        self._judge()
        if self.form is None or (preset := self._valid()) is None:
            return
        if reasons := self.query_one(Facts).refusals():
            self._refuse("\n".join(reasons))
        elif misfits := self.query_one(Facts).misfits():
            more = len(misfits) - ASKED
            told = [*misfits[:ASKED], *([f"and {more} more stages"] if more > 0 else [])]
            question = "It does not fit into what is free now."
            ask = ConfirmScreen(question, "\n".join(told), "launch anyway")
            self.app.push_screen(ask, lambda yes: self._start(preset) if yes else None)
        else:
            self._start(preset)

    def _start(self, preset: Preset) -> None:
        assert self.form is not None, "a preset comes from a form"
        try:
            runs = launch(self.home, preset, self.form.title)
        except (SpecError, RunNotFound, OSError) as error:
            self._refuse(str(error))
            return
        self._open_monitor(runs[0])

    def _open_monitor(self, run: RunDir) -> None:
        from workbench.app import WorkbenchApp

        if isinstance(self.app, WorkbenchApp):
            self.app.open_monitor(run)

    def action_back(self) -> None:
        if not any(form.is_touched for form in self.forms.values()):
            self.dismiss()
            return
        self.app.push_screen(ConfirmScreen("Drop what you changed?"), self._leave)

    def _leave(self, agreed: bool | None) -> None:
        if agreed:
            self.dismiss()
