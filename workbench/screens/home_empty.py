"""What a home without runs shows: presets to start with, and what the machine lacks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from rlhf_engine.job.errors import SpecError
from rlhf_engine.runs.sample import printable
from workbench.keys import LIST_KEYS, bindings

if TYPE_CHECKING:
    from workbench.doctor import Finding

# What a newcomer should try first.
FIRST = ("demo", "smoke")


def offered_presets() -> list[tuple[str, str]]:
    """Every shipped preset and what it is about; one that is broken says how. Takes a moment."""
    from rlhf_engine.job.presets import preset_files

    names = list(preset_files())
    names.sort(key=lambda name: (name not in FIRST, name))
    return [(name, _about(name)) for name in names]


def _about(name: str) -> str:
    from rlhf_engine.job.presets import load_preset

    try:
        return load_preset(name).about
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

    def compose(self) -> ComposeResult:
        yield Static(Content("No runs yet. Choose what to train; the form opens before it starts."))
        choices = PresetChoice(id="offers")
        choices.border_title = "presets"
        yield choices
        yield Static("", id="findings")

    def show_offers(self, offers: Sequence[tuple[str, str]]) -> None:
        """Fill the list of presets: names, and what they are about."""
        width = 2 + max((len(name) for name, _ in offers), default=0)
        self.query_one(PresetChoice).add_options(
            Option(Content.assemble((f"{name:<{width}}", "bold"), printable(about)), id=name)
            for name, about in offers
        )
        self.query_one(PresetChoice).highlighted = 0

    def show_findings(self, findings: "Sequence[Finding]") -> None:
        """Show what doctor found, apart from what is in order."""
        told = [finding for finding in findings if finding.level != "ok"]
        lines = [
            Content.assemble(
                (f"{finding.level:<5}", "$error" if finding.level == "bad" else "$warning"),
                printable(finding.what),
                (f" → {printable(finding.advice)}" if finding.advice else "", "$text-muted"),
            )
            for finding in told
        ]
        if findings and not told:
            lines = [Content("doctor finds nothing that stands in the way")]
        self.query_one("#findings", Static).update(Content("\n").join(lines))
