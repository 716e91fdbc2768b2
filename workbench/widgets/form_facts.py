"""All that is known of a form: whether it can start, memory, data, changes, command line."""

from collections.abc import Set
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from rlhf_engine.job.presets import Preset
from rlhf_engine.runs.sample import printable
from workbench.form_model import Form, Verdict
from workbench.widgets.form_data import DataPane
from workbench.widgets.form_memory import MemoryPane
from workbench.widgets.form_parts import difference, summary


class Facts(VerticalScroll):
    """What follows from a form; asks the engine by itself for memory, and when told for data."""

    DEFAULT_CSS = """
    Facts {
        height: 1fr; scrollbar-size-vertical: 1;
        &:focus { background-tint: $foreground 5%; }
        #brief { display: none; }
        .title { color: $primary; margin-top: 1; }
    }
    """

    class Changed(Message):
        """The engine has found out something."""

    def __init__(self, home: Path) -> None:
        super().__init__(id="facts")
        self._form: Form | None = None
        self._verdict = Verdict(None, {})
        self._memory = MemoryPane(home)
        self._data = DataPane(home)

    def compose(self) -> ComposeResult:
        yield Static(id="summary")
        yield Static(id="brief")
        yield Static(Content("memory"), classes="title")
        yield self._memory
        yield Static(Content("model and data"), classes="title")
        yield self._data
        yield Static(Content("changes"), classes="title")
        yield Static(id="difference")
        yield Static(Content("the same from a shell"), classes="title")
        yield Static(id="command")

    def show(self, form: Form, stage: int, verdict: Verdict) -> None:
        """Follow a form, one stage of it in detail."""
        self._form, self._verdict = form, verdict
        self._memory.watch_preset(verdict.preset, stage)
        self._data.watch_preset(verdict.preset, form.base.stages[stage].name)
        self.query_one("#difference", Static).update(difference(form))
        self.query_one("#command", Static).update(Content(printable(form.command(verdict.preset))))
        self._sum_up()

    @on(MemoryPane.Changed)
    @on(DataPane.Changed)
    def _engine_answered(self) -> None:
        self._sum_up()
        self.post_message(self.Changed())

    def _sum_up(self) -> None:
        if self._form is None:
            return
        text = summary(self._form, self._verdict, self.refusals(), bool(self.lacking))
        self.query_one("#summary", Static).update(text)
        brief = printable(f"{self._memory.brief()} · {self._data.brief()}")
        self.query_one("#brief", Static).update(Content(brief))

    def check(self, preset: Preset) -> None:
        """Let the engine look at model, data and rewards, and estimate once more."""
        self._data.check(preset)
        self._memory.again()
        self._sum_up()

    @property
    def lacking(self) -> Set[str]:
        """The stages that take more memory than is free."""
        free = self._memory.free
        return {stage.spec.name for stage in self._memory.stages if stage.lacks(free)}

    def refusals(self) -> list[str]:
        """What the engine found that no run gets past; the spec's own problems come first."""
        found = [*self._memory.refusals(), *self._data.refusals()]
        return list(dict.fromkeys(found)) if self._verdict.preset else []

    def misfits(self) -> list[str]:
        """Why stages do not fit into what is free, and what would help."""
        return self._memory.misfits()

    def report(self) -> str:
        """Everything, with whole tables and examples."""
        if self._form is None:
            return ""
        command = self._form.command(self._verdict.preset)
        return "\n\n".join(
            (
                summary(self._form, self._verdict, self.refusals(), bool(self.lacking)).plain,
                f"MEMORY\n{self._memory.report()}",
                f"MODEL AND DATA\n{self._data.report()}",
                f"CHANGES\n{difference(self._form).plain}",
                f"THE SAME FROM A SHELL\n{command}",
            )
        )
