"""What the home screen shows before the first run: presets to start from, and what is amiss."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import load_preset, preset_files
from rlhf_engine.runs.sample import printable
from workbench.commands.text import clip
from workbench.doctor import Finding
from workbench.keys import LIST_KEYS, bindings

# What a newcomer should try first.
FIRST = ("demo", "smoke")


def presets_with_about() -> list[tuple[str, str]]:
    """Every shipped preset with its one line, those for a newcomer first."""
    found = []
    names = list(preset_files())
    for name in sorted(names, key=lambda name: (name not in FIRST, names.index(name))):
        try:
            found.append((name, load_preset(name).about))
        except SpecError as error:
            found.append((name, str(error)))
    return found


class PresetList(OptionList):
    """Presets, one line each; enter opens the launch form."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(LIST_KEYS)]


class EmptyHome(Vertical):
    """Presets and the doctor's warnings."""

    DEFAULT_CSS = """
    EmptyHome {
        padding: 1 2;
        & > Static { margin-bottom: 1; height: auto; }
        PresetList {
            height: auto; max-height: 14; border: none; background: $background; padding: 0;
        }
        #doctor { margin-top: 1; color: $warning; }
    }
    """

    def compose(self) -> ComposeResult:
        yield Static(Content("No runs yet. Choose a preset and press enter, or n for the form."))
        presets = presets_with_about()
        width = max((len(name) for name, _ in presets), default=0)
        yield PresetList(
            *(
                Option(
                    Text.assemble((f"{name:<{width}}  ", "bold"), Text(clip(about, 300))),
                    id=name,
                )
                for name, about in presets
            )
        )
        yield Static("", id="doctor")

    def show_findings(self, findings: Sequence[Finding]) -> None:
        """Show what the doctor warns of, each with its advice."""
        lines = [
            f"{finding.level}: {finding.what}{'; ' + finding.advice if finding.advice else ''}"
            for finding in findings
            if finding.level != "ok"
        ]
        self.query_one("#doctor", Static).update(Content(printable("\n".join(lines))))
