"""The live fields of a spec: found by their mark, read, validated and changed by name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from rlhf_engine.job.errors import SpecError, nearest
from rlhf_engine.job.section import Section
from rlhf_engine.job.spec import SPEC, RunSpec, Spec


@dataclass(frozen=True)
class Knob:
    """One live field: its name everywhere, its place in the spec, and what it may be."""

    name: str
    path: tuple[str, ...]
    help: str
    unit: str
    field: FieldInfo

    @property
    def dotted(self) -> str:
        return ".".join(self.path)

    @property
    def bounds(self) -> str:
        """The bounds in words, such as `0 <= kl_coef <= 10`."""
        low = next((b for b in self.field.metadata if isinstance(b, Ge | Gt)), None)
        high = next((b for b in self.field.metadata if isinstance(b, Le | Lt)), None)
        left = f"{low.ge:g} <= " if isinstance(low, Ge) else f"{low.gt:g} < " if low else ""
        right = f" <= {high.le:g}" if isinstance(high, Le) else f" < {high.lt:g}" if high else ""
        return f"{left}{self.name}{right}"

    def parse(self, value: object) -> float:
        """Return `value` as the number that the spec's own rules allow.

        Raises SpecError with the bounds if they refuse it.
        """
        adapter: TypeAdapter[float] = TypeAdapter(_annotated(self.field))
        if isinstance(value, bool):
            raise SpecError(f"{self.name} = {value!r} is not a number; allowed: {self.bounds}")
        try:
            number = adapter.validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].lower()
            raise SpecError(f"{self.name} = {value!r}: {reason}; allowed: {self.bounds}") from None
        if number != number or number in (float("inf"), float("-inf")):
            raise SpecError(f"{self.name} = {value!r} is not a number; allowed: {self.bounds}")
        return number


def _annotated(field: FieldInfo) -> Any:
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def knobs_of(spec: type[RunSpec]) -> dict[str, Knob]:
    """Every knob of a stage by its name, in the order of the spec's fields."""
    return {knob.name: knob for knob in _walk(spec, ())}


def _walk(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[Knob]:
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "knob" in extra:
            unit = str(extra["unit"])
            yield Knob(str(extra["knob"]), (*path, name), field.description or "", unit, field)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _walk(field.annotation, (*path, name))


def find_knob(spec: type[RunSpec], name: str) -> Knob:
    """The knob of that name or dotted path; SpecError names the nearest one."""
    knobs = knobs_of(spec)
    for knob in knobs.values():
        if name in (knob.name, knob.dotted):
            return knob
    raise SpecError(f"{name!r} is no knob of this stage; {nearest(name, knobs)}")


def check_change(spec: Spec, knob: Knob, value: float) -> None:
    """Raise SpecError if the spec as a whole would refuse a value that the knob allows."""
    table = spec.model_dump()
    place = table
    for part in knob.path[:-1]:
        place = place[part]
    place[knob.path[-1]] = value
    try:
        SPEC.validate_python(table)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SpecError(f"{knob.name} = {value:g}: {reason}") from None


def knob_values(spec: RunSpec) -> dict[str, float]:
    """The values that a run starts with."""
    return {name: _get(spec, knob.path) for name, knob in knobs_of(type(spec)).items()}


def _get(spec: RunSpec, path: tuple[str, ...]) -> float:
    value: Any = spec
    for part in path:
        value = getattr(value, part)
    return float(value)


def check_changes(spec: RunSpec) -> None:
    """Raise SpecError for a planned change that names no knob of the stage or a wrong value."""
    for index, change in enumerate(spec.changes):
        try:
            find_knob(type(spec), change.knob).parse(change.value)
        except SpecError as error:
            raise SpecError(f"changes.{index}: {error}") from None


def planned_changes(spec: RunSpec) -> dict[int, list[tuple[str, float]]]:
    """The planned changes of each step in their order: the knob's name and its value."""
    plan: dict[int, list[tuple[str, float]]] = {}
    for change in spec.changes:
        name = find_knob(type(spec), change.knob).name
        plan.setdefault(change.step, []).append((name, change.value))
    return plan
