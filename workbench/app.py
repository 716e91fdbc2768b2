"""The application: screens, themes, keys and the palette around them."""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

# Both are read by Textual when it is imported. Nothing moves unless a person asks for it.
os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
# The least time between two paintings, which a key pressed just after one has to wait for.
os.environ.setdefault("TEXTUAL_FPS", "240")

from rich.text import Text
from textual import events
from textual.actions import parse
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.dom import DOMNode
from textual.filter import Monochrome, NoColor
from textual.screen import Screen
from textual.theme import Theme
from textual.widget import Widget
from textual.widgets import Static

from rlhf_engine.runs.directory import RunDir, RunNotFound, all_runs, find_run
from rlhf_engine.runs.lock import is_held
from rlhf_engine.runs.sample import printable
from workbench.board import Board
from workbench.garbage import TIDY_SECONDS, tidy
from workbench.keys import APP_KEYS, bindings, read_keymap
from workbench.screens.help import HelpScreen
from workbench.screens.home import HomeScreen
from workbench.screens.jump import JumpScreen, targets
from workbench.settings import SettingsError, read_settings, remember
from workbench.signs import has_utf8, use_stand_ins
from workbench.themes import PLAIN, THEMES, theme_for

if TYPE_CHECKING:
    from rlhf_engine.job.spec import Spec
    from workbench.screens.launch import LaunchScreen
    from workbench.widgets.pipeline_row import PipelineRow

MIN_COLUMNS, MIN_LINES = 60, 16
FORM = "form"


class TooSmall(Screen[None]):
    """Stands in for every screen while the terminal is too small to draw it."""

    DEFAULT_CSS = "TooSmall { align: center middle; & > Static { width: auto; } }"

    def compose(self) -> ComposeResult:
        yield Static()

    def tell(self, width: int, height: int) -> None:
        text = f"needs {MIN_COLUMNS}x{MIN_LINES}, have {width}x{height}"
        self.query_one(Static).update(Content(text))

    def on_mount(self) -> None:
        self.tell(*self.app.size)


class WorkbenchApp(App[None]):
    """The workbench's screens over one home of runs; leaving it never ends an engine."""

    TITLE = "RLHF Workbench"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(APP_KEYS)]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]
    CSS = """
    ToastRack { margin-bottom: 1; }
    """

    def __init__(self, home: Path, open_run: str | None = None) -> None:
        super().__init__()
        self.home = home
        self._open_run = open_run
        self._last_run: RunDir | None = None
        self._form: LaunchScreen | None = None
        self._clashes: set[str] = set()
        self.board = Board()
        choices = {"theme": tuple(theme.name for theme in THEMES.values()), "signs": ("ascii",)}
        chosen, self._problems = read_settings(home, choices)
        # Our own theme without colours stands for the greys that Textual would show.
        self._no_colour = NoColor(enabled=False)
        self._filters = [f for f in self._filters if not isinstance(f, Monochrome)]
        self._filters.append(self._no_colour)
        for theme in THEMES.values():
            self.register_theme(theme)
        self.theme = theme_for(os.environ, self.console.color_system, chosen.theme).name
        self._drop_colours(self.current_theme)
        if chosen.signs:
            use_stand_ins(always=True)

    def get_default_screen(self) -> Screen[None]:
        return HomeScreen(self.home)

    def on_mount(self) -> None:
        self.theme_changed_signal.subscribe(self, self._drop_colours, immediate=True)
        self.set_interval(TIDY_SECONDS, tidy)
        for problem in self._problems:
            self.tell(problem, "error")
        self._read_keymap()
        if self._open_run is not None:
            try:
                self.open_monitor(find_run(self.home, self._open_run))
            except RunNotFound as error:
                self.tell(str(error), "error")

    def _read_keymap(self) -> None:
        path = self.home / "keys.toml"
        if not path.exists():
            return
        keymap, problems = read_keymap(path)
        for problem in problems:
            self.tell(problem, "error")
        self.set_keymap(keymap)

    def handle_bindings_clash(self, clashed_bindings: set[Binding], node: DOMNode) -> None:
        names = {binding.id or binding.key for binding in clashed_bindings} - self._clashes
        if names:
            self._clashes |= names
            lost = ", ".join(sorted(names))
            self.tell(f"keys.toml: {lost} lost a key to another one; give it a free key", "warning")

    def tell(self, text: str, severity: str = "information") -> None:
        """Notify in plain text: what is told may hold anything."""
        self.notify(printable(text), severity=severity, markup=False, timeout=8)  # type: ignore[arg-type]

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Our keys by their names, also those that a line of text takes for itself; the themes."""
        listed = {"app.palette"}
        for bound in screen.active_bindings.values():
            binding = bound.binding
            if binding.id and bound.enabled and binding.id not in listed:
                listed.add(binding.id)
                label = f"{binding.description} ({self.get_key_display(binding)})"
                yield self._command(label, binding, bound.node)
        nodes: tuple[DOMNode, ...] = (screen, self)
        for node in nodes:
            for own in node.BINDINGS:
                if isinstance(own, Binding) and own.id and own.id not in listed:
                    _, name, parameters = parse(own.action)
                    if node.check_action(name, parameters):
                        listed.add(own.id)
                        yield self._command(own.description, own, node)
        for label, theme in THEMES.items():
            yield SystemCommand(
                f"Theme: {label}", "Chosen now and remembered", partial(self.choose_theme, theme)
            )

    def _command(self, label: str, binding: Binding, node: DOMNode) -> SystemCommand:
        run = partial(self.call_later, self.run_action, binding.action, node)
        return SystemCommand(label, binding.tooltip, run)

    def choose_theme(self, theme: Theme) -> None:
        """Wear a theme, now and at every later start."""
        self.theme = theme.name
        try:
            remember(self.home, "theme", theme.name)
        except SettingsError as error:
            self.tell(f"the theme holds until you leave: {error}", "warning")

    def _drop_colours(self, theme: Theme) -> None:
        self._no_colour.enabled = theme.name == PLAIN.name

    def get_key_display(self, binding: Binding) -> str:
        """A key as the footer, the help and the palette show it; in words without UTF-8."""
        shown = super().get_key_display(binding)
        return shown if has_utf8() or shown.isascii() else binding.key

    def watch_app_focus(self, focus: bool) -> None:
        """Let a screen that opened while the terminal was not in use take its focus afterwards."""
        if focus:
            self.screen._update_auto_focus()

    def on_resize(self, event: events.Resize) -> None:
        self._guard(*event.size)

    def _guard(self, width: int, height: int) -> None:
        small = width < MIN_COLUMNS or height < MIN_LINES
        if isinstance(self.screen, TooSmall):
            if small:
                self.screen.tell(width, height)
            else:
                self.pop_screen()
        elif small:
            self.push_screen(TooSmall())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if isinstance(self.screen, TooSmall):
            return action in ("leave", "quit", "suspend_process")
        return True

    def action_help(self) -> None:
        self.push_screen(HelpScreen(self.screen))

    def action_jump(self) -> None:
        """Put a letter on everything that can take the focus, and go where a person types."""
        if not targets(self.screen):
            self.tell("nothing here takes the focus; ? shows the keys of this screen")
            return

        def chosen(widget: Widget | None) -> None:
            if widget is not None and widget.is_mounted:
                widget.focus()

        self.push_screen(JumpScreen(self.screen), chosen)

    def action_runs(self) -> None:
        """Back to the list of runs."""
        while len(self.screen_stack) > 1:
            self.pop_screen()

    def action_new(self) -> None:
        self.open_form()

    def open_form(self, preset: str | None = None, spec: "Spec | None" = None) -> None:
        """Open the launch form; without a preset or spec, the one left behind if there is one."""
        from workbench.screens.launch import LaunchScreen

        if self._form is not None and self.screen is self._form:
            return
        self.action_runs()
        if self._form is not None and (preset or spec):
            self._drop_form()
        if self._form is None:
            self._form = LaunchScreen(self.home, preset, spec)
            # An installed screen outlives its leaving, and so does what was typed.
            self.install_screen(self._form, FORM)
        self.push_screen(self._form, self._form_closed)
        self._guard(*self.size)

    def _form_closed(self, _: None) -> None:
        # The form can go only once it has left the stack.
        self.call_later(self._drop_form)

    def _drop_form(self) -> None:
        form, self._form = self._form, None
        if form is not None:
            self.uninstall_screen(FORM)
            form.remove()

    def action_monitor(self) -> None:
        if self._last_run is None:
            self.tell("no monitor was opened yet: choose a run and press enter")
        elif not self._last_run.spec_file.exists():
            self.tell(f"{self._last_run.id} was deleted: choose a run and press enter")
        else:
            self._show_monitor(self._last_run)

    def action_compare(self) -> None:
        """Show the compared runs; what was chosen there before is kept."""
        from workbench.screens.compare import CompareScreen

        if isinstance(self.screen, CompareScreen):
            return
        self.action_runs()
        self.push_screen(CompareScreen(self.home, self.board))
        self._guard(*self.size)

    def open_monitor(self, run: RunDir) -> None:
        """Show a run's live monitor; a form that opens it has done its work."""
        done_with_form = self._form is not None and self.screen is self._form
        self._show_monitor(run)
        if done_with_form:
            self._drop_form()

    def on_pipeline_row_opened(self, message: "PipelineRow.Opened") -> None:
        self._show_monitor(message.run)

    def _show_monitor(self, run: RunDir) -> None:
        from workbench.screens.monitor import MonitorScreen

        if isinstance(self.screen, MonitorScreen) and self._last_run == run:
            return
        self._last_run = run
        self.action_runs()
        self.push_screen(MonitorScreen(run))
        self._guard(*self.size)

    def action_samples(self) -> None:
        if self._last_run is None:
            self.tell("no run was opened yet: choose one and press enter, then 4")
        elif not self._last_run.spec_file.exists():
            self.tell(f"{self._last_run.id} was deleted: choose a run and press enter")
        else:
            self.open_samples(self._last_run)

    def open_samples(self, run: RunDir, seq: int | None = None) -> None:
        """Show a run's samples over its monitor, with the cursor on one of them."""
        from workbench.screens.samples import SamplesScreen

        if isinstance(self.screen, SamplesScreen) and self.screen.run == run:
            return
        self.open_monitor(run)
        self.push_screen(SamplesScreen(run, seq))
        self._guard(*self.size)

    def action_leave(self) -> None:
        """Leave the screens, and say which engines go on."""
        alive = [run.id for run in all_runs(self.home) if is_held(run.lock)]
        told = ""
        if alive:
            told = f"{len(alive)} run{'s go' if len(alive) > 1 else ' goes'} on without the screens"
            told += "; come back with: workbench"
        self.exit(message=Text(told) if told else None)
