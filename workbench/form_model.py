"""The launch form without its screen: fields of a spec, what was typed, and whether it can run."""

import re
import shlex
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import tomlkit
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import Preset, load_preset, parse_value
from rlhf_engine.job.section import Section
from rlhf_engine.job.spec import RunSpec, TrainedSpec
from rlhf_engine.runs.directory import RunNotFound
from workbench.commands.starting import ready_preset

NAME = "--name"
# The stage decides which fields there are; the name is asked for beside the Launch button; a
# fork is made from a run.
NOT_IN_FORM = ("stage", "name", "fork")
# What is asked for last: how a run is looked after, not what it does.
SHARED = frozenset(TrainedSpec.model_fields) | {"health"}


@dataclass(frozen=True)
class FormField:
    """One field of a spec as a person edits it; `choices` is empty unless it is one of a few."""

    path: tuple[str, ...]
    help: str
    unit: str
    bounds: str
    knob: str
    choices: tuple[str, ...]
    is_switch: bool
    is_text: bool

    @property
    def key(self) -> str:
        return ".".join(self.path)

    @property
    def group(self) -> str:
        return ".".join(self.path[:-1])

    @property
    def label(self) -> str:
        return self.path[-1]

    def show(self, value: Any) -> str:
        """A value of the spec as the text of its editor."""
        if value is None:
            return ""
        if isinstance(value, str):
            plain = self.is_text and value.isprintable() and value == value.strip()
            return value if plain and value and not value.startswith('"') else _quoted(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        return _toml(value)

    def override(self, text: str) -> str:
        """What to write behind `=` so that an override gives the value that `text` means."""
        text = text.strip()
        if not self.is_text or parse_value(text) in (None, text):
            return text
        quoted = text.startswith('"') and isinstance(parse_value(text), str)
        return text if quoted else _quoted(text)

    def value(self, text: str) -> Any:
        """The value that `text` means, before the spec has judged it."""
        return parse_value(self.override(text))


def _toml(value: Any) -> str:
    if isinstance(value, Section):
        return _toml(value.model_dump(exclude_defaults=True))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _quoted(text)


def _quoted(text: str) -> str:
    """A TOML string on one line with every control character written out."""
    string = tomlkit.string(text).as_string()
    return "".join(c if c.isprintable() else _escaped(c) for c in string)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@cache
def form_fields(model: type[Section], path: tuple[str, ...] = ()) -> list[FormField]:
    """Every field that a person can edit, what all runs share last.

    Of each table the plain fields come first, then the tables inside it.
    """
    plain, nested = [], []
    shared: Container[str] = () if path else SHARED
    for name, info in sorted(model.model_fields.items(), key=lambda item: item[0] in shared):
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            nested += form_fields(kind, (*path, name))
        elif path or name not in NOT_IN_FORM:
            plain.append(_form_field((*path, name), info))
    return plain + nested


def _form_field(path: tuple[str, ...], info: FieldInfo) -> FormField:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    kind = info.annotation
    options = get_args(kind) if get_origin(kind) is Literal else ()
    return FormField(
        path=path,
        help=" ".join((info.description or "").split()),
        unit=str(extra.get("unit", "")),
        bounds=_bounds(info),
        knob=str(extra.get("knob", "")),
        choices=tuple(map(str, options)),
        is_switch=kind is bool,
        is_text=bool(options) or kind in (str, str | None),
    )


def _bounds(info: FieldInfo) -> str:
    """The bounds in words, such as `0 to 10` or `more than 0`."""
    found = {type(bound): bound for bound in info.metadata}
    low, above = found.get(Ge), found.get(Gt)
    high, below = found.get(Le), found.get(Lt)
    if low and high:
        return f"{low.ge:g} to {high.le:g}"
    words = [f"at least {low.ge:g}"] if low else [f"more than {above.gt:g}"] if above else []
    words += [f"at most {high.le:g}"] if high else [f"less than {below.lt:g}"] if below else []
    return ", ".join(words)


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
    """A preset (a name or a file) and what a person typed over it."""

    source: str
    base: Preset
    name: str = ""
    typed: dict[tuple[int, str], str] = field(default_factory=dict)

    @classmethod
    def open(cls, source: str) -> "Form":
        """Raises SpecError if the preset cannot be read."""
        return cls(source, load_preset(source))

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

    def command(self) -> str:
        """The command line that starts the same runs from a shell."""
        words = ["workbench", "run", self.source]
        if self.title:
            words += [NAME, self.title]
        for change in self.changes():
            words += ["--set", change.override]
        return shlex.join(words)

    def check(self, home: Path) -> Verdict:
        """Ask the spec whether this can be launched."""
        problems: dict[tuple[int, str], str] = {}
        for stage in {stage for stage, _ in self.typed}:
            try:
                load_preset(self.source, [change.override for change in self.changes(stage)])
            except SpecError as error:
                problems |= {(stage, key): line for key, line in _lines(error, self.base.source)}
        changes = () if problems else tuple(change.override for change in self.changes())
        try:
            preset = ready_preset(home, self.source, changes, self.title)
        except SpecError as error:
            _, is_name, wrong = str(error).partition(": name: ")
            problems[0, NAME if is_name else ""] = wrong or str(error)
        except RunNotFound as error:
            problems[0, ""] = str(error)
        return Verdict(None if problems else preset, problems)


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
