"""What a person has changed of a preset, what the spec says of it, and the command that does it."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import Preset, load_preset, preset_files
from rlhf_engine.job.spec import Spec
from rlhf_engine.runs import launch
from rlhf_engine.runs.directory import RunDir, RunNotFound, home_folder
from rlhf_engine.runs.sample import printable
from workbench.commands.starting import ready_preset
from workbench.widgets.form_fields import PIPELINE_NAME, FormField, FormGroup, groups_of

NAME_FIELD = FormField(
    (PIPELINE_NAME,), "text", help="Name of the pipeline; each run is called <name>-<stage>."
)


@dataclass(frozen=True)
class Problem:
    """What the spec says of a field, or of a table; both empty if of the preset as a whole."""

    stage: str
    path: str
    text: str


@dataclass
class Draft:
    """A preset with changes; `typed` holds what was typed by stage and dotted path.

    Raises SpecError if the preset itself cannot be read.
    """

    home: Path
    source: str
    typed: dict[tuple[str, str], str] = field(default_factory=dict)
    stage: int = 0

    def __post_init__(self) -> None:
        self.base: Preset = load_preset(self.source)

    @property
    def title(self) -> str:
        """The preset's name; `copy of <run>` for the spec of a run."""
        path = Path(self.source)
        return f"copy of {path.parent.name}" if path.name == "run.toml" else self.source

    @property
    def spec(self) -> Spec:
        """The spec, as the preset has it, of the stage that is edited now."""
        return self.base.stages[self.stage]

    def groups(self) -> list[FormGroup]:
        """The form of the stage that is edited now."""
        groups = groups_of(type(self.spec))
        if not self.base.is_pipeline:
            return groups
        # Stages of a pipeline find each other by name: it is the pipeline that can be renamed.
        first = tuple(field for field in groups[0].fields if field.path != ("name",))
        return [FormGroup("", groups[0].about, (NAME_FIELD, *first)), *groups[1:]]

    def preset_text(self, field: FormField) -> str:
        if field is NAME_FIELD:
            return self.base.name
        value: object = self.spec
        for part in field.path:
            value = getattr(value, part)
        return field.text(value)

    def text(self, field: FormField) -> str:
        """What was typed, else the preset's value."""
        return self.typed.get(self._key(field), self.preset_text(field))

    def is_changed(self, field: FormField) -> bool:
        return self._key(field) in self.typed

    def set(self, field: FormField, text: str) -> None:
        """Take what was typed; typing the preset's own value is no change."""
        same = text.strip() == self.preset_text(field)
        if not same and field is not NAME_FIELD:
            same = field.parse(text) == field.parse(self.preset_text(field))
        if same:
            self.typed.pop(self._key(field), None)
        else:
            self.typed[self._key(field)] = text

    def undo(self, field: FormField) -> None:
        self.typed.pop(self._key(field), None)

    def changes(self, stage: str) -> int:
        return sum(1 for name, _ in self.typed if name == stage)

    def _key(self, field: FormField) -> tuple[str, str]:
        return ("" if field is NAME_FIELD else self.spec.name, field.dotted)

    @property
    def name(self) -> str | None:
        """The name typed for a pipeline."""
        return self.typed.get(("", PIPELINE_NAME))

    def overrides(self, stage: str | None = None) -> list[str]:
        """The changes as `key=value`, of one stage or of all."""
        found = []
        for spec in self.base.stages:
            fields = {f.dotted: f for group in groups_of(type(spec)) for f in group.fields}
            scope = f"{spec.name}:" if self.base.is_pipeline else ""
            found += [
                f"{scope}{path}={fields[path].override(text)}"
                for (name, path), text in self.typed.items()
                if name == spec.name and stage in (None, name)
            ]
        return found

    def command(self) -> str:
        """The command line that launches the same."""
        words = ["workbench", "run", self.source]
        for override in self.overrides():
            words += ["--set", override]
        if self.name is not None:
            words += ["--name", self.name]
        if self.home != home_folder():
            words += ["--home", str(self.home)]
        return printable(shlex.join(words))

    def check(self) -> list[Problem]:
        """What is wrong, in the spec's own words; empty if it can be launched."""
        try:
            ready_preset(self.home, self.source, tuple(self.overrides()), self.name)
        except (SpecError, RunNotFound) as error:
            return self._by_stage() or [Problem("", "", str(error))]
        return []

    def _by_stage(self) -> list[Problem]:
        problems = []
        for spec in self.base.stages:
            try:
                load_preset(self.source, self.overrides(spec.name))
            except SpecError as error:
                for line in str(error).splitlines():
                    told = line.removeprefix(f"{self.base.source}: ")
                    path, _, _ = told.partition(": ")
                    problems.append(Problem(spec.name, path, told))
        return problems

    def launch(self) -> list[RunDir]:
        """Create the runs and start their engines.

        Raises SpecError or RunNotFound with the reason, OSError if the disk refuses.
        """
        ready = ready_preset(self.home, self.source, tuple(self.overrides()), self.name)
        return launch.launch(self.home, ready, self.name)


@dataclass
class Drafts:
    """The drafts of a session by their preset, kept while the person looks elsewhere."""

    home: Path
    current: Draft | None = None
    kept: dict[str, Draft] = field(default_factory=dict)

    def sources(self) -> list[str]:
        """Every preset that can be chosen: copies of runs first, then the shipped ones."""
        shipped = list(preset_files())
        return [source for source in self.kept if source not in shipped] + shipped

    def open(self, source: str) -> Draft:
        """The draft of a preset, begun if there is none; SpecError if it cannot be read."""
        self.current = None
        if source not in self.kept:
            self.kept[source] = Draft(self.home, source)
        self.current = self.kept[source]
        return self.current

    @property
    def changes(self) -> int:
        return sum(len(draft.typed) for draft in self.kept.values())

    def clear(self) -> None:
        self.kept.clear()
        self.current = None
