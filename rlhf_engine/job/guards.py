"""Guards and limits of a spec: judged when it is loaded, and asked by engine and viewer."""

import math
from dataclasses import dataclass
from typing import Any

from annotated_types import Ge, Gt, Le, Lt

from rlhf_engine.job.errors import SpecError, nearest
from rlhf_engine.job.knobs import Knob, check_change, find_knob
from rlhf_engine.job.metrics import CLOCKED, metrics_of
from rlhf_engine.job.spec import Spec, TrainedSpec
from rlhf_engine.job.watch import Guard


def guards_of(spec: Spec) -> list[Guard]:
    """The rules of a run; a stage that trains nothing has none."""
    return spec.guards if isinstance(spec, TrainedSpec) else []


def check_guards(spec: Spec) -> None:
    """Raise SpecError for a rule that names no figure or knob of the stage, or a wrong value."""
    for index, guard in enumerate(guards_of(spec)):
        try:
            field = "metric"
            _check_metric(spec, guard.metric)
            field = "times"
            _check_name(spec, guard.times)
            field = "knob"
            _check_name(spec, guard.knob)
            field = "value"
            if guard.knob is not None and guard.value is not None:
                knob = find_knob(type(spec), guard.knob)
                check_change(spec, knob, knob.parse(guard.value))
        except SpecError as error:
            raise SpecError(f"guards.{index}.{field}: {error}") from None


def _check_metric(spec: Spec, name: str) -> None:
    known = metrics_of(spec)
    if name.endswith(CLOCKED):
        raise SpecError(f"{name} is measured by a clock, which no repetition gives again")
    if name not in known:
        raise SpecError(f"{name!r} is no figure of this run; {nearest(name, known)}")


def _check_name(spec: Spec, name: str | None) -> None:
    if name is None:
        return
    knob = find_knob(type(spec), name)
    if name != knob.name:
        raise SpecError(f"write the knob's name: {knob.name}")


def turned(guard: Guard, knob: Knob, now: float) -> float:
    """The value that a guard gives its knob, within the knob's bounds."""
    if guard.factor is None:
        return now if guard.value is None else guard.value
    return _within(knob, float(f"{now * guard.factor:.6g}"))


def _within(knob: Knob, value: float) -> float:
    for bound in knob.field.metadata:
        if isinstance(bound, Ge):
            value = max(value, _number(bound.ge))
        elif isinstance(bound, Le):
            value = min(value, _number(bound.le))
        elif isinstance(bound, Gt) and value <= _number(bound.gt):
            value = math.nextafter(_number(bound.gt), math.inf)
        elif isinstance(bound, Lt) and value >= _number(bound.lt):
            value = math.nextafter(_number(bound.lt), -math.inf)
    return value


def _number(bound: Any) -> float:
    return float(bound)


@dataclass(frozen=True)
class Limited:
    """Limits of one figure: [watch, bad] or nothing, as multiples of a knob if `times` names it."""

    limits: list[float]
    times: str = ""


def limits_of(spec: Spec) -> dict[str, Limited]:
    """The limits of a run's figures by their names."""
    found = {}
    for name, field in type(spec.health).model_fields.items():
        extra = field.json_schema_extra
        times = str(extra.get("times", "")) if isinstance(extra, dict) else ""
        found[name] = Limited(getattr(spec.health, name), times)
    return found
