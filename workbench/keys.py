"""Keys: one table drives dispatch, footer, help, palette and the README.

`python -m workbench.keys` prints the tables for the README.
"""

import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.binding import Binding
from textual.keys import Keys, format_key, key_to_character

from rlhf_engine.job.errors import nearest


@dataclass(frozen=True)
class Key:
    """One key of a screen; `id` is what a person's keymap refers to. One that is `everywhere` comes
    before what else would take the key."""

    id: str
    keys: str
    action: str
    label: str
    help: str
    show: bool = True
    everywhere: bool = False

    def binding(self) -> Binding:
        return Binding(
            self.keys,
            self.action,
            self.label,
            show=self.show,
            tooltip=self.help,
            id=self.id,
            priority=self.everywhere,
        )


def bindings(keys: Iterable[Key]) -> list[Binding]:
    """A table as the BINDINGS of a screen or widget."""
    return [key.binding() for key in keys]


# A line of text takes `?`. What terminals send for ctrl+/ is ctrl+_, or ctrl+/ where they say more.
HELP_KEY = Key(
    "app.help",
    "question_mark,ctrl+underscore,ctrl+slash",
    "app.help",
    "Help",
    "Keys of the focused pane and the screen",
)
APP_KEYS = (
    HELP_KEY,
    Key("app.runs", "1", "runs", "Runs", "The list of runs", show=False),
    Key("app.new", "2", "new", "New run", "Launch a preset; what you typed is kept", show=False),
    Key("app.monitor", "3", "monitor", "Monitor", "The monitor opened last", show=False),
    Key("app.samples", "4", "samples", "Samples", "The samples of the run opened last", show=False),
    Key("app.compare", "5", "compare", "Compare", "The runs that are compared", show=False),
    Key("app.jump", "ctrl+o", "jump", "Jump", "A letter on every pane: type it to go there", False),
    Key("app.leave", "q", "leave", "Leave", "Leave the screens; engines go on"),
    Key("app.quit", "ctrl+q", "leave", "Leave now", "Leave from wherever you are", False, True),
    Key(
        "app.suspend",
        "ctrl+z",
        "suspend_process",
        "Suspend",
        "To the shell; `fg` returns",
        show=False,
        everywhere=True,
    ),
    Key("app.palette", "ctrl+p", "command_palette", "palette", "Find a command by its name", False),
)

OPEN_KEY = Key("runs.open", "enter", "screen.open", "Open", "Open the run's monitor")
RUNS_KEYS = (
    Key("runs.new", "n", "app.new", "New", "Launch a preset"),
    Key("runs.resume", "r", "resume", "Resume", "Go on with a run that is paused or has ended"),
    Key("runs.duplicate", "d", "duplicate", "Copy", "A new run from this run's spec", False),
    Key("runs.mark", "space", "mark", "Mark", "Put the run into the comparison, or take it out"),
    Key("runs.compare", "c", "compare", "Compare", "Compare the marked runs", show=False),
    Key("runs.stop", "x", "stop", "Stop", "Save a checkpoint and end the run; asks first"),
    Key("runs.delete", "D", "delete", "Delete", "Delete an ended run; asks for its name", False),
    Key(
        "runs.filter",
        "slash",
        "filter",
        "Filter",
        "Show some runs: words, kind:ppo, -state:lost, kl>8, score<=1",
    ),
    Key("runs.clear", "escape", "clear", "Show all", "Drop the filter; then the marks", show=False),
)

LIST_KEYS = (
    Key("list.down", "j", "cursor_down", "Down", "Next line", show=False),
    Key("list.up", "k", "cursor_up", "Up", "Line before", show=False),
)
CONFIRM_KEYS = (
    Key("confirm.yes", "y", "yes", "Yes", "Do it"),
    Key("confirm.no", "n,escape", "no", "No", "Leave everything as it is"),
)
HELP_KEYS = (Key("help.close", "escape,q,question_mark", "close", "Close", "Close the help"),)
JUMP_KEYS = (Key("jump.leave", "escape,ctrl+o", "leave", "Stay", "Leave jump mode, stay here"),)


def tables() -> dict[str, tuple[Key, ...]]:
    """Every table by the name of its screen."""
    from workbench.screens.compare import COMPARE_KEYS
    from workbench.screens.edit_value import EDIT_KEYS
    from workbench.screens.fork import FORK_KEYS
    from workbench.screens.launch_keys import LAUNCH_KEYS
    from workbench.screens.monitor_keys import MONITOR_KEYS
    from workbench.screens.name_preset import NAME_KEYS
    from workbench.screens.pick import PICK_KEYS
    from workbench.screens.rollback import ROLLBACK_KEYS
    from workbench.screens.samples import SAMPLES_KEYS
    from workbench.widgets.field_table import FIELD_KEYS
    from workbench.widgets.form import CHOICE_KEYS
    from workbench.widgets.form_parts import STAGE_ROW_KEYS
    from workbench.widgets.knob_panel import PANEL_KEYS
    from workbench.widgets.lane_table import LANE_KEYS
    from workbench.widgets.numbers import NUMBERS_KEYS
    from workbench.widgets.pipeline_row import PIPELINE_KEYS
    from workbench.widgets.text_page import PAGE_KEYS

    return {
        "Everywhere": APP_KEYS,
        "Runs": (OPEN_KEY, *RUNS_KEYS),
        "New run": tuple(LAUNCH_KEYS),
        "Form": (*STAGE_ROW_KEYS, *CHOICE_KEYS),
        "Editing a list or table": EDIT_KEYS,
        "Saving a preset": NAME_KEYS,
        "Lists": LIST_KEYS,
        "Monitor": tuple(MONITOR_KEYS),
        "Knobs": PANEL_KEYS,
        "Table of figures": NUMBERS_KEYS,
        "Roll back": ROLLBACK_KEYS,
        "Fork": FORK_KEYS,
        "Samples": SAMPLES_KEYS,
        "Compare": (*COMPARE_KEYS, *LANE_KEYS, *FIELD_KEYS),
        "Choosing": PICK_KEYS,
        "Row of a pipeline": PIPELINE_KEYS,
        "Pages of text": PAGE_KEYS,
        "Questions": (*CONFIRM_KEYS, *HELP_KEYS, *JUMP_KEYS),
    }


def read_keymap(path: Path) -> tuple[dict[str, str], list[str]]:
    """A person's keys by binding id from a TOML file, and what is wrong with the rest.

    Lines read `"runs.stop" = "s"` or, in a table `[runs]`, `stop = "s,ctrl+s"`.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {}, [f"{path}: cannot be read: {error}; the keys stay as they were"]
    known = {key.id for keys in tables().values() for key in keys}
    keymap, problems = {}, []
    for name, value in _flat(table):
        if name not in known:
            problems.append(f"{path}: {name!r} is no key's id; {nearest(name, known)}")
        elif not isinstance(value, str) or not value.strip():
            problems.append(f'{path}: {name}: write keys as text, for example "s" or "s,ctrl+s"')
        elif wrong := [key for key in value.split(",") if not _exists(key.strip())]:
            problems.append(
                f"{path}: {name}: no key is called {wrong[0].strip()!r}; write for example "
                '"s", "ctrl+s", "space", "slash" or "pagedown"'
            )
        else:
            keymap[name] = ",".join(key.strip() for key in value.split(","))
    return keymap, problems


def _flat(table: dict[str, Any], before: str = "") -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _exists(key: str) -> bool:
    *modifiers, last = key.split("+")
    named = last in {member.value for member in Keys} or key_to_character(last) is not None
    return named and set(modifiers) <= {"ctrl", "shift", "alt", "super"}


def markdown() -> str:
    """Every table in Markdown, as the README shows them."""
    lines = []
    for screen, keys in tables().items():
        lines += [f"**{screen}**", "", "| key | id | what it does |", "|---|---|---|"]
        for key in keys:
            lines.append(f"| {readable(key.keys)} | `{key.id}` | {key.help or key.label} |")
        lines.append("")
    return "\n".join(lines)


def readable(keys: str) -> str:
    """Keys as a person names them: `ctrl+g`, `?`, `⏎`."""
    return " or ".join(f"`{format_key(key)}`" for key in keys.split(","))


if __name__ == "__main__":
    sys.stdout.write(markdown() + "\n")
