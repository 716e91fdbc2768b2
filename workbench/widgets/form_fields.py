"""The fields of a stage's spec as a form needs them: generated from the schema, no screen here."""

import json
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import tomlkit
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlhf_engine.job.presets import parse_value
from rlhf_engine.job.section import Section
from rlhf_engine.job.spec import RunSpec

Kind = Literal["text", "number", "choice", "switch", "list", "table"]
PIPELINE_NAME = "--name"


@dataclass(frozen=True)
class FormField:
    """One field: what it is called, what it may be, and what its docstring says.

    `knob` is the name under which it can be changed while the run trains; empty if it cannot.
    """

    path: tuple[str, ...]
    kind: Kind
    help: str = ""
    unit: str = ""
    bounds: str = ""
    knob: str = ""
    optional: bool = False
    choices: tuple[str, ...] = ()

    @property
    def dotted(self) -> str:
        return ".".join(self.path)

    def override(self, typed: str) -> str:
        """What was typed as the value of `--set key=value`, so that it is read back as meant."""
        text = typed.strip()
        if self.kind in ("list", "table"):
            return _collection(self.kind, text)
        if self.kind in ("text", "choice") and text and parse_value(text) != text:
            return json.dumps(text, ensure_ascii=False)
        return text

    def parse(self, typed: str) -> Any:
        """The value that what was typed stands for."""
        return parse_value(self.override(typed))

    def text(self, value: Any) -> str:
        """A value as a person would type it."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, list) and not any("," in item or '"' in item for item in value):
            return ", ".join(value)
        if isinstance(value, list | dict):
            return _inline(value) if value else ""
        return (
            f"{value:g}"
            if isinstance(value, float) and float(f"{value:g}") == value
            else str(value)
        )


def _collection(kind: Kind, text: str) -> str:
    if text.startswith(("[", "{")):
        return text
    if kind == "table":
        return "{" + text + "}"
    return _inline([item.strip() for item in text.split(",") if item.strip()])


def _inline(value: list[str] | dict[str, str]) -> str:
    if isinstance(value, list):
        return tomlkit.item(value).as_string()
    table = tomlkit.inline_table()
    table.update(value)
    return table.as_string()


@dataclass(frozen=True)
class FormGroup:
    """The fields of one table of the spec; the first group has no title."""

    title: str
    about: str
    fields: tuple[FormField, ...]


def groups_of(model: type[RunSpec]) -> list[FormGroup]:
    """Every field of a stage's spec, table by table, in the order of the schema."""
    return [group for group in _groups(model, ()) if group.fields]


def _groups(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[FormGroup]:
    plain, nested = [], []
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            nested.append((name, info.annotation))
        elif (*path, name) != ("stage",):
            plain.append(_field((*path, name), info))
    yield FormGroup(".".join(path), _one_line(model.__doc__), tuple(plain))
    for name, section in nested:
        yield from _groups(section, (*path, name))


def _field(path: tuple[str, ...], info: FieldInfo) -> FormField:
    annotation, optional = _without_none(info.annotation)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    literal = get_origin(annotation) is Literal
    return FormField(
        path=path,
        kind="choice" if literal else _kind(annotation),
        help=_one_line(info.description),
        unit=str(extra.get("unit", "")),
        bounds=_bounds(info, path[-1]),
        knob=str(extra.get("knob", "")),
        optional=optional,
        choices=tuple(str(choice) for choice in get_args(annotation)) if literal else (),
    )


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in get_args(annotation) if part is not types.NoneType]
        if len(rest) == 1:
            return rest[0], True
    return annotation, False


def _kind(annotation: Any) -> Kind:
    if annotation is bool:
        return "switch"
    if annotation in (int, float):
        return "number"
    return {list: "list", dict: "table"}.get(get_origin(annotation), "text")  # type: ignore[arg-type,return-value]


def _bounds(info: FieldInfo, name: str) -> str:
    """Bounds in words, such as `0 <= coef <= 10`."""
    low = high = ""
    for mark in info.metadata:
        match mark:
            case Ge():
                low = f"{mark.ge} <= "
            case Gt():
                low = f"{mark.gt} < "
            case Le():
                high = f" <= {mark.le}"
            case Lt():
                high = f" < {mark.lt}"
    return f"{low}{name}{high}" if low or high else ""


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
