"""Presets: commented TOML files that hold one run or a pipeline, with overrides."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rlhf_engine.job.errors import SpecError, nearest, spec_error
from rlhf_engine.job.guards import check_guards
from rlhf_engine.job.knobs import check_changes, knobs_of
from rlhf_engine.job.section import Section, sections_in
from rlhf_engine.job.spec import SPEC, STAGES, RunSpec, Spec

Table = dict[str, Any]


@dataclass(frozen=True)
class Preset:
    """A named list of stages; a single run is a list of one.

    A stage of a pipeline names an earlier one as `stage:<name>`; launching replaces that by
    `run:<id>`.
    """

    name: str
    about: str
    source: str
    stages: tuple[Spec, ...]

    @property
    def is_pipeline(self) -> bool:
        return len(self.stages) > 1


def preset_folder() -> Path:
    """The shipped presets: beside the packages in a checkout, inside the engine in a wheel."""
    packaged = Path(str(files("rlhf_engine"))) / "presets"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "presets"


def own_presets(home: Path) -> dict[str, Path]:
    """The presets that a person has saved in a home, by their names."""
    return {path.stem: path for path in sorted((home / "presets").glob("*.toml"))}


def preset_files(home: Path | None = None) -> dict[str, Path]:
    """Every shipped preset by its name and, with a home, those saved there; of two of one name
    the person's own counts."""
    shipped = {path.stem: path for path in sorted(preset_folder().glob("*.toml"))}
    return shipped | (own_presets(home) if home else {})


def load_preset(name: str, overrides: list[str] | None = None, home: Path | None = None) -> Preset:
    """Read a preset by its name or path, apply `a.b=c` overrides, and validate it.

    Names are the shipped ones and those of a home. Raises SpecError naming the file, the key and
    the nearest key that exists.
    """
    path = _find(name, home)
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: not valid TOML: {error}") from None
    about = " ".join(
        line.lstrip("# ") for line in text.split("\n\n", 1)[0].splitlines() if line.startswith("#")
    )
    source = path.name
    stages = _stages(table, source)
    for override in overrides or []:
        apply_override(stages, override)
    specs = tuple(parse_spec(stage, source) for stage in stages)
    if any(spec.fork for spec in specs):
        raise SpecError(f"{source}: fork: is written by `workbench fork RUN --step N` alone")
    _check_links(specs, source)
    return Preset(str(table.get("name", path.stem)), about, source, specs)


def _find(name: str, home: Path | None) -> Path:
    known = preset_files(home)
    if name in known:
        return known[name]
    path = Path(name).expanduser()
    if path.is_file():
        return path
    raise SpecError(f"no preset or file {name!r}; {nearest(name, known)}")


def _stages(table: Table, source: str) -> list[Table]:
    if "stages" not in table:
        return [table]
    shared = {key: value for key, value in table.items() if key not in ("stages", "name")}
    stages = table["stages"]
    if not isinstance(stages, list) or not all(isinstance(s, dict) for s in stages):
        raise SpecError(f"{source}: stages: write each one as a [[stages]] table")
    return [_merge(shared, {"name": stage.get("stage", "run"), **stage}) for stage in stages]


def _merge(base: Table, over: Table) -> Table:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def parse_spec(table: Table, source: str) -> Spec:
    """Validate one stage's table; SpecError says `source: key: what is wrong`."""
    try:
        spec = SPEC.validate_python(table)
        check_changes(spec)
        check_guards(spec)
    except ValidationError as error:
        model = STAGES.get(str(table.get("stage")))
        keys = _keys(model) if model else {}
        raise spec_error(error, source, keys | {"stages": list(STAGES)}) from None
    except SpecError as error:
        raise SpecError(f"{source}: {error}") from None
    return spec


def _keys(model: type[Section], path: str = "") -> dict[str, list[str]]:
    found = {path: list(model.model_fields)}
    for name, field in model.model_fields.items():
        for section in sections_in(field.annotation):
            found |= _keys(section, f"{path}.{name}".lstrip("."))
    return found


def apply_override(stages: list[Table], override: str) -> None:
    """Write `key=value` into the tables that the key fits; SpecError names the nearest key."""
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise SpecError(f"--set {override}: write it as key=value, for example ppo.kl.coef=0.1")
    value = parse_value(text.strip())
    targets, known = [], set[str]()
    scope, _, rest = key.strip().partition(":")
    named = rest and any(scope == table.get("name") for table in stages)
    for table in stages:
        model = STAGES.get(str(table.get("stage")))
        if model is None:
            continue
        if rest and scope != table.get("name" if named else "stage"):
            continue
        path = _resolve(model, rest or scope)
        known |= {".".join(p) for p in _leaves(model)}
        if path:
            targets.append((table, path))
    if not targets:
        raise SpecError(f"--set {override}: unknown key; {nearest(key.strip(), known)}")
    for table, path in targets:
        for part in path[:-1]:
            table[part] = table = dict(table.get(part, {}))
        table[path[-1]] = value


def _resolve(model: type[RunSpec], key: str) -> tuple[str, ...] | None:
    """A dotted path, a knob's name, or a knob's name behind its table (`ppo.kl_coef`)."""
    path = tuple(key.split("."))
    if path in _leaves(model):
        return path
    if len(path) > 1 and path[:-1] in _open_tables(model):
        return path
    knob = knobs_of(model).get(path[-1])
    return knob.path if knob and len(path) <= 2 else None


def _leaves(model: type[Section], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found |= _leaves(field.annotation, (*path, name))
        else:
            found.add((*path, name))
    return found


def _open_tables(model: type[Section]) -> set[tuple[str, ...]]:
    """Tables whose keys are the person's own, such as `data.columns`."""
    return {path for path in _leaves(model) if path[-1] == "columns"}


def parse_value(text: str) -> Any:
    """A TOML value, or the text itself: `0.1`, `true`, `["a"]`, `some/path`; empty is none."""
    if text == "":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _check_links(specs: tuple[Spec, ...], source: str) -> None:
    seen: set[str] = set()
    for spec in specs:
        for link in stage_links(spec):
            if link not in seen:
                raise SpecError(
                    f"{source}: stage {spec.name!r} reads stage:{link}, which does not come "
                    f"before it; {nearest(link, seen)}"
                )
        if spec.name in seen:
            raise SpecError(f"{source}: two stages are named {spec.name!r}; name one otherwise")
        seen.add(spec.name)


def stage_links(spec: Spec) -> list[str]:
    """Names of the earlier stages that this one reads from."""
    return [v.removeprefix("stage:") for v in _texts(spec.model_dump()) if v.startswith("stage:")]


def link_stages(spec: Spec, ids: dict[str, str]) -> Spec:
    """The spec with `stage:<name>` replaced by `run:<id>`."""

    def linked(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: linked(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [linked(item) for item in value]
        if isinstance(value, str) and value.startswith("stage:"):
            return f"run:{ids[value.removeprefix('stage:')]}"
        return value

    return SPEC.validate_python(linked(spec.model_dump()))


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []
