"""A new run: choose a preset, change fields, see the command line, launch."""

from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import DescendantFocus
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Button, Footer, Input, OptionList, Select, Static
from textual.widgets.option_list import Option

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import preset_files
from rlhf_engine.job.spec import Spec
from rlhf_engine.runs.directory import RunDir, RunNotFound, all_runs
from rlhf_engine.runs.launch import launch
from rlhf_engine.runs.sample import printable
from workbench.form_model import NAME, Form, Verdict
from workbench.keys import Key
from workbench.screens.confirm import ConfirmScreen
from workbench.widgets.form import FieldRow, FormView, help_text, problem_of
from workbench.widgets.form_parts import StageRow, difference, summary

LAUNCH_KEYS = (
    Key("new.launch", "ctrl+g", "launch", "Launch", "Start the runs, if everything is valid"),
    Key("new.undo", "u,ctrl+z", "undo", "Undo field", "Give the field its value of the preset"),
    Key("new.pane", "tab", "pane(1)", "Next pane", "Presets, stages, fields, name, Launch"),
    Key("new.pane_before", "shift+tab", "pane(-1)", "Pane before", "Pane before", show=False),
    Key("new.field", "down", "field(1)", "Next field", "Next field", show=False),
    Key("new.field_before", "up", "field(-1)", "Field before", "Field before", show=False),
    Key("new.page", "pagedown", "field(10)", "Ten fields on", "Ten fields on", show=False),
    Key("new.page_before", "pageup", "field(-10)", "Ten back", "Ten fields back", show=False),
    Key("new.stage", "],ctrl+pagedown", "stage(1)", "Next stage", "Next stage", show=False),
    Key("new.stage_before", "[,ctrl+pageup", "stage(-1)", "Stage before", "Stage before", False),
    Key("new.copy", "y", "copy", "Copy command", "Copy the command line to the clipboard"),
    Key("new.back", "escape", "back", "Back", "Drop what was typed, after asking, and go back"),
)


class LaunchScreen(Screen[None]):
    """Launch a preset, or with `spec` the like of a run; `preset` may also be a file."""

    BINDINGS: ClassVar[list[BindingType]] = [key.binding() for key in LAUNCH_KEYS]
    AUTO_FOCUS = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    DEFAULT_CSS = """
    LaunchScreen {
        & > Select { display: none; }
        #left { width: 25; border: round $primary 40%; }
        #presets {
            height: auto; max-height: 60%; border: none; padding: 0; background: transparent;
        }
        #about { height: 1fr; padding: 1 1 0 1; color: $text-muted; }
        #middle { width: 1fr; border: round $primary 40%; }
        FormView { height: 1fr; }
        #help { height: auto; max-height: 7; padding: 0 1; border-top: solid $primary 40%; }
        #right {
            width: 34; border: round $primary 40%; padding: 0 1;
        }
        #facts { height: 1fr; }
        .title { color: $text-muted; margin-top: 1; }
        #start { height: auto; }
        #name { width: 1fr; &.-invalid { color: $error; } }
        #launch { width: auto; min-width: 10; }
        &.-narrow {
            #left { display: none; }
            & > Select { display: block; }
            #body { layout: vertical; }
            #middle { width: 100%; height: 1fr; }
            #help { max-height: 4; }
            #right { width: 100%; height: auto; border: none; }
            #facts { height: auto; max-height: 4; }
            #summary { max-height: 2; }
            #difference, .title { display: none; }
        }
    }
    """

    def __init__(self, home: Path, preset: str | None = None, spec: Spec | None = None) -> None:
        super().__init__()
        self.home = home
        self.forms: dict[str, Form] = {}
        self.form: Form | None = None
        self.stage = 0
        self.verdict = Verdict(None, {})
        given = preset or (_spec_file(home, spec) if spec else None)
        self._is_lost = spec is not None and given is None
        self._sources = list(preset_files())
        if given and given not in self._sources:
            self._sources.insert(0, given)
        self._first = given or (self._sources[0] if self._sources else None)

    def compose(self) -> ComposeResult:
        titles = {source: _title(source) for source in self._sources}
        yield Select(
            [(Content(titles[source]), source) for source in self._sources],
            prompt="preset",
            compact=True,
            id="preset",
        )
        with Horizontal(id="body"):
            options = [Option(Content(titles[source]), id=source) for source in self._sources]
            with Vertical(id="left") as left:
                left.border_title = "presets"
                yield OptionList(*options, id="presets", markup=False)
                yield Static(id="about")
            with Vertical(id="middle"):
                yield StageRow()
                yield FormView()
                yield Static(id="help")
            with Vertical(id="right"):
                with VerticalScroll(id="facts", can_focus=False):
                    yield Static(id="summary")
                    yield Static(Content("changes"), classes="title")
                    yield Static(id="difference")
                    yield Static(Content("the same from a shell"), classes="title")
                    yield Static(id="command")
                with Horizontal(id="start"):
                    yield Input(id="name", compact=True, placeholder="name of the run")
                    yield Button("Launch", id="launch", variant="primary", compact=True)
        yield Footer()

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
            self.form = self.forms.get(source) or Form.open(source)
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
        if event.input.id == "name":
            self.query_one("#launch").focus()
        else:
            self.query_one(FormView).walk(1)

    def _judge(self) -> None:
        """Ask the spec again, and show everything that follows from the answer."""
        form = self.form
        if form is None:
            return
        self.verdict = form.check(self.home)
        self.query_one(FormView).mark(self.verdict.problems)
        self.query_one(StageRow).show(form, self.stage, self.verdict)
        self.query_one("#summary", Static).update(summary(form, self.verdict))
        self.query_one("#difference", Static).update(difference(form))
        self.query_one("#command", Static).update(Content(printable(form.command())))
        self.query_one("#name").set_class((0, NAME) in self.verdict.problems, "-invalid")
        self._explain()

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
            for pane in self.query("#presets, #preset, StageRow, FormView, #name, #launch")
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
            self.app.copy_to_clipboard(self.form.command())
            self.notify("copied the command line", markup=False)

    @on(Button.Pressed, "#launch")
    def action_launch(self) -> None:
        form = self.form
        if form is None:
            return
        # The files that a spec names may have changed since the last key.
        self._judge()
        if self.verdict.preset is None:
            self._refuse(summary(form, self.verdict).plain)
            return
        try:
            runs = launch(self.home, self.verdict.preset, form.title)
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


def _spec_file(home: Path, spec: Spec) -> str | None:
    """The run.toml that holds this spec, of the newest such run."""
    for run in all_runs(home):
        if spec.name in run.id:
            with suppress(SpecError):
                if run.spec() == spec:
                    return str(run.spec_file)
    return None


def _title(source: str) -> str:
    path = Path(source)
    return printable(f"run {path.parent.name}" if path.name == "run.toml" else path.stem)
