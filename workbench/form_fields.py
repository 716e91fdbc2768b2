"""The fields of a launch form, generated from a spec's schema, and their texts in both ways."""

import json
import re
import tomllib
from collections.abc import Container
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

import tomlkit
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from rlhf_engine.job.presets import parse_value
from rlhf_engine.job.section import Section, sections_in
from rlhf_engine.job.spec import TrainedSpec

# The stage decides which fields there are; the name is asked for beside the Launch button; a
# fork is made from a run.
NOT_IN_FORM = ("stage", "name", "fork")
# What is asked for last: how a run is looked after, not what it does.
SHARED = frozenset(TrainedSpec.model_fields) | {"health"}
Shape = Literal["plain", "list", "table"]


@dataclass(frozen=True)
class FormField:
    """One field of a spec as a person edits it.

    `choices` is empty unless it is one of a few; `inside` names the fields of each entry of a
    list of tables.
    """

    path: tuple[str, ...]
    help: str
    unit: str
    bounds: str
    knob: str
    choices: tuple[str, ...]
    is_switch: bool
    is_text: bool
    shape: Shape = "plain"
    inside: "tuple[FormField, ...]" = ()

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
        return to_toml(value)

    def override(self, text: str) -> str:
        """What to write behind `=` so that an override gives the value that `text` means."""
        text = text.strip()
        if self.shape != "plain":
            return self._override_of_many(text)
        if not self.is_text or parse_value(text) in (None, text):
            return text
        quoted = text.startswith('"') and isinstance(parse_value(text), str)
        return text if quoted else _quoted(text)

    def _override_of_many(self, text: str) -> str:
        if not text:
            return "[]" if self.shape == "list" else "{}"
        try:
            return to_toml(_parse_many(text, self.shape))
        except ValueError:
            return text

    def value(self, text: str) -> Any:
        """The value that `text` means, before the spec has judged it."""
        return parse_value(self.override(text))

    def fault(self, text: str) -> str | None:
        """What is wrong with the writing of a list or table; None where nothing is."""
        if self.shape == "plain" or not text.strip():
            return None
        try:
            _parse_many(text.strip(), self.shape)
        except ValueError as error:
            return f"neither TOML nor JSON: {error}"
        return None

    def lines(self, text: str) -> str:
        """The text of a list or table over several lines, as it is best edited."""
        if self.fault(text) or not text.strip():
            return text
        value = self.value(text)
        if isinstance(value, list) and value:
            return "[\n" + "".join(f"  {to_toml(item)},\n" for item in value) + "]"
        if isinstance(value, dict):
            return "\n".join(f"{_key(key)} = {to_toml(item)}" for key, item in value.items())
        return text


def _parse_many(text: str, shape: Shape) -> Any:
    """A list or table from TOML or JSON, a table also from `key = value` lines.

    Raises ValueError with TOML's complaint, or JSON's where only that could be meant.
    """
    try:
        if shape == "table" and not text.startswith("{"):
            return tomllib.loads(text)
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as toml_error:
        try:
            return json.loads(text)
        except ValueError as json_error:
            is_json = '":' in text.replace(" ", "")
            raise ValueError(str(json_error if is_json else toml_error)) from None


def to_toml(value: Any) -> str:
    """A value on one line of TOML."""
    if isinstance(value, Section):
        return to_toml(value.model_dump(exclude_defaults=True))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {to_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(to_toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
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
    shape = _shape(kind)
    entries = next(sections_in(kind), None) if shape == "list" else None
    return FormField(
        path=path,
        help=" ".join((info.description or "").split()),
        unit=str(extra.get("unit", "")),
        bounds=_bounds(info),
        knob=str(extra.get("knob", "")),
        choices=tuple(map(str, options)),
        is_switch=kind is bool,
        is_text=bool(options) or kind in (str, str | None),
        shape=shape,
        inside=tuple(form_fields(entries, (path[-1],))) if entries else (),
    )


def _shape(kind: Any) -> Shape:
    origin = get_origin(kind)
    return "list" if origin in (list, tuple) else "table" if origin is dict else "plain"


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
