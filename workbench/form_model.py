"""The launch form without its screen: what was typed over a preset, and whether it can run."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import platformdirs

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import Preset, load_preset, preset_files
from rlhf_engine.job.spec import RunSpec
from rlhf_engine.runs.directory import RunNotFound
from rlhf_engine.runs.launch import absolute_sources
from rlhf_engine.runs.sample import printable
from workbench.commands.starting import ready_preset
from workbench.form_fields import FormField, form_fields

NAME = "--name"


@dataclass(frozen=True)
class Change:
    """One field that differs from the preset; `stage` is empty in a single run."""

    stage: str
    field: FormField
    before: str
    after: str

    @property
    def override(self) -> str:
        scope = f"{self.stage}:" if self.stage else ""
        return f"{scope}{self.field.key}={self.field.override(self.after)}"


@dataclass(frozen=True)
class Verdict:
    """What the spec says of the form: `preset` to launch, or problems by (stage, key).

    A key is a field's dotted path, a table's path, `--name`, or empty for the whole.
    """

    preset: Preset | None
    problems: dict[tuple[int, str], str]


@dataclass
class Form:
    """A preset (a name, of a home's own too, or a file) and what a person typed over it."""

    source: str
    base: Preset
    home: Path
    name: str = ""
    typed: dict[tuple[int, str], str] = field(default_factory=dict)

    @classmethod
    def open(cls, source: str, home: Path) -> "Form":
        """Raises SpecError if the preset cannot be read."""
        return cls(source, load_preset(source, home=home), home)

    @property
    def default_name(self) -> str:
        return self.base.name if self.base.is_pipeline else self.base.stages[0].name

    def fields(self, stage: int) -> list[FormField]:
        return form_fields(type(self.base.stages[stage]))

    def before(self, stage: int, field: FormField) -> str:
        """The text of the preset's value."""
        return field.show(_get(self.base.stages[stage], field.path))

    def text(self, stage: int, field: FormField) -> str:
        return self.typed.get((stage, field.key), self.before(stage, field))

    def is_changed(self, stage: int, field: FormField) -> bool:
        return (stage, field.key) in self.typed

    def type(self, stage: int, field: FormField, text: str) -> None:
        """Keep what was typed; text that means the preset's value is no change."""
        if field.value(text) == field.value(self.before(stage, field)):
            self.typed.pop((stage, field.key), None)
        else:
            self.typed[stage, field.key] = text

    def undo(self, stage: int, field: FormField) -> None:
        self.typed.pop((stage, field.key), None)

    def changes(self, only: int | None = None) -> list[Change]:
        """Every change in the order of the form."""
        return [
            Change(self._scope(stage), item, self.before(stage, item), self.text(stage, item))
            for stage in range(len(self.base.stages))
            if only in (None, stage)
            for item in self.fields(stage)
            if self.is_changed(stage, item)
        ]

    def _scope(self, stage: int) -> str:
        return self.base.stages[stage].name if self.base.is_pipeline else ""

    @property
    def title(self) -> str | None:
        """The name to launch under, if it is not the preset's own."""
        chosen = self.name.strip()
        return chosen if chosen and chosen != self.default_name else None

    @property
    def is_touched(self) -> bool:
        return bool(self.typed or self.title)

    def command(self, preset: Preset | None = None) -> str:
        """The command line that starts the same runs from any shell of this machine.

        A `preset` that reads relative paths is started from the folder that they are seen from.
        """
        is_file = self.source not in preset_files(self.home)
        source = str(Path(self.source).expanduser().resolve()) if is_file else self.source
        words = ["workbench", "run", source]
        if not _is_usual(self.home):
            words += ["--home", str(self.home)]
        if self.title:
            words += [NAME, self.title]
        for change in self.changes():
            words += ["--set", change.override]
        is_relative = preset and any(absolute_sources(spec) != spec for spec in preset.stages)
        folder = ["cd", shlex.quote(os.getcwd()), "&&", ""] if is_relative else []
        return " ".join(folder) + shlex.join(words)

    def check(self) -> Verdict:
        """Ask the spec whether this can be launched."""
        problems: dict[tuple[int, str], str] = {}
        for stage in {stage for stage, _ in self.typed}:
            problems |= self._problems_of(stage)
        changes = () if problems else tuple(change.override for change in self.changes())
        try:
            preset = ready_preset(self.home, self.source, changes, self.title)
        except SpecError as error:
            _, is_name, wrong = str(error).partition(": name: ")
            problems[0, NAME if is_name else ""] = wrong or str(error)
        except RunNotFound as error:
            problems[0, ""] = str(error)
        return Verdict(None if problems else preset, problems)

    def problem_with(self, stage: int, item: FormField, text: str) -> str | None:
        """What would be wrong with a field if this were typed into it."""
        trial = replace(self, typed={**self.typed, (stage, item.key): text})
        return problem_of(trial._problems_of(stage), stage, item)

    def _problems_of(self, stage: int) -> dict[tuple[int, str], str]:
        """What is wrong with what was typed into one stage: its writing, else its meaning."""
        changes = self.changes(stage)
        faults = {
            (stage, change.field.key): fault
            for change in changes
            if (fault := change.field.fault(change.after))
        }
        if faults:
            return faults
        try:
            load_preset(self.source, [change.override for change in changes], self.home)
        except SpecError as error:
            return {(stage, key): line for key, line in _lines(error, self.base.source)}
        return {}


def problem_of(problems: dict[tuple[int, str], str], stage: int, item: FormField) -> str | None:
    """The problem of a field or of something inside it, such as one entry of a list."""
    for (where, key), line in problems.items():
        if where == stage and (key == item.key or key.startswith(f"{item.key}.")):
            inner = key.removeprefix(item.key).removeprefix(".")
            return printable(f"{inner}: {line}" if inner else line)
    return None


def _is_usual(home: Path) -> bool:
    """Whether any shell of this person finds the home without being told."""
    usual = Path(platformdirs.user_data_dir("rlhf-workbench"))
    return "WORKBENCH_HOME" not in os.environ and home == usual.resolve()


def _get(spec: RunSpec, path: tuple[str, ...]) -> Any:
    value: Any = spec
    for part in path:
        value = getattr(value, part)
    return value


def _lines(error: SpecError, source: str) -> Iterator[tuple[str, str]]:
    """Each line of an error as the key that it concerns and what is wrong."""
    for line in str(error).splitlines():
        rest = line.removeprefix(f"{source}: ")
        key, separator, wrong = rest.partition(": ")
        yield (key, wrong) if separator and " " not in key else ("", rest)
