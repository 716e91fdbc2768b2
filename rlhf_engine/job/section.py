"""The base of every spec section, and the mark that makes a field a knob."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A frozen, typed table that refuses unknown keys; docstrings are the fields' help."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        str_strip_whitespace=True,
    )


def live(default: Any, *, knob: str, unit: str = "", **bounds: Any) -> Any:
    """A field that can be changed while the run trains, known everywhere by the name `knob`."""
    return Field(default, json_schema_extra={"knob": knob, "unit": unit}, **bounds)


def fixed(default: Any = ..., *, unit: str = "", **bounds: Any) -> Any:
    """A field that stays as it is for the whole run."""
    return Field(default, json_schema_extra={"unit": unit}, **bounds)


def sections_in(annotation: Any) -> Iterator[type[Section]]:
    """The sections that a field of this type holds: itself, `X | None`, or a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from sections_in(part)
