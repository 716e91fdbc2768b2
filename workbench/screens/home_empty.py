"""What a home without runs shows: presets to start with, and what the machine lacks."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from rlhf_engine.job.errors import SpecError
from rlhf_engine.runs.sample import printable
from workbench.keys import LIST_KEYS, bindings

if TYPE_CHECKING:
    from workbench.doctor import Finding

# What a newcomer should try first.
FIRST = ("demo", "smoke")


def offered_presets(home: Path) -> list[tuple[str, str]]:
    """Every preset of a home, the shipped ones too, and what it is about; one that is broken says
    how. Takes a moment."""
    from rlhf_engine.job.presets import preset_files

    names = list(preset_files(home))
    names.sort(key=lambda name: (name not in FIRST, name))
    return [(name, _about(name, home)) for name in names]


def _about(name: str, home: Path) -> str:
    from rlhf_engine.job.presets import load_preset

    try:
        return load_preset(name, home=home).about
    except SpecError as error:
        return f"cannot be used: {error}"


class PresetChoice(OptionList):
    """Presets, one line each; enter opens the launch form."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(LIST_KEYS)]


class EmptyHome(VerticalScroll):
    """Greets, offers presets, and shows doctor's warnings once they are known."""

    DEFAULT_CSS = """
    EmptyHome {
        padding: 1 2; height: 1fr;
        PresetChoice {
            height: auto; max-height: 1fr; margin: 1 0; background: $background;
            text-wrap: nowrap; text-overflow: ellipsis;
            &, &:focus { border: round $primary; border-title-color: $primary; }
        }
        #findings { color: $text-muted; height: auto; }
    }
    """
    can_focus = False

    @dataclass
    class Examined(Message):
        """What the doctor found."""

        findings: "list[Finding]"

    @dataclass
    class Offered(Message):
        """The presets, and what they are about."""

        offers: list[tuple[str, str]]

    def __init__(self, home: Path) -> None:
        super().__init__()
        self._home = home
        self._greeted = False

    def compose(self) -> ComposeResult:
        yield Static(Content("No runs yet. Choose what to train; the form opens before it starts."))
        choices = PresetChoice(id="offers")
        choices.border_title = "presets"
        yield choices
        yield Static("", id="findings")

    def greet(self) -> None:
        """Look for presets and examine the machine, once, in threads."""
        if not self._greeted:
            self._greeted = True
            self._offer()
            self._examine()

    @work(thread=True, group="offers")
    def _offer(self) -> None:
        self.post_message(self.Offered(offered_presets(self._home)))

    @work(thread=True, group="doctor")
    def _examine(self) -> None:
        from workbench.doctor import examine

        self.post_message(self.Examined(examine(self._home)))

    @on(Offered)
    def _show_offers(self, event: Offered) -> None:
        """Fill the list of presets: names, and what they are about."""
        offers = event.offers
        width = 2 + max((len(name) for name, _ in offers), default=0)
        self.query_one(PresetChoice).add_options(
            Option(Content.assemble((f"{name:<{width}}", "bold"), printable(about)), id=name)
            for name, about in offers
        )
        self.query_one(PresetChoice).highlighted = 0

    @on(Examined)
    def _show_findings(self, event: Examined) -> None:
        """Show what doctor found, apart from what is in order."""
        told = [finding for finding in event.findings if finding.level != "ok"]
        lines = [
            Content.assemble(
                (f"{finding.level:<5}", "$error" if finding.level == "bad" else "$warning"),
                printable(finding.what),
                (f" → {printable(finding.advice)}" if finding.advice else "", "$text-muted"),
            )
            for finding in told
        ]
        if event.findings and not told:
            lines = [Content("doctor finds nothing that stands in the way")]
        self.query_one("#findings", Static).update(Content("\n").join(lines))
