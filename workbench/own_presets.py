"""Saving a form as a preset of one's own: the TOML of where it came from, with its comments."""

import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, cast

import tomlkit
from pydantic import TypeAdapter, ValidationError
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AbstractTable

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import Preset, load_preset, own_presets, preset_files
from rlhf_engine.job.section import Section
from rlhf_engine.job.spec import RunSpec, Spec
from rlhf_engine.runs.directory import write_private
from rlhf_engine.runs.launch import absolute_sources
from rlhf_engine.runs.sample import printable
from workbench.form_model import Form

WIDTH = 98
_NAME: TypeAdapter[str] = TypeAdapter(Annotated[(str, *RunSpec.model_fields["name"].metadata)])
# So many changes are named in the comment at the top.
NAMED = 4


def name_problem(home: Path, name: str) -> str | None:
    """Why a preset cannot be saved under this name; None where it can."""
    if not name:
        return "type a name"
    try:
        _NAME.validate_python(name)
    except ValidationError:
        return "a name is lower-case letters, digits, dots and dashes"
    if name in preset_files() and name not in own_presets(home):
        return f"{name} is a shipped preset; choose another name"
    return None


def save_preset(form: Form, wanted: Preset, name: str) -> Path:
    """Write what a form would launch into `<home>/presets/<name>.toml`; return the file.

    Raises SpecError, and writes nothing, if the file would not mean the same.
    """
    stages = tuple(absolute_sources(spec) for spec in wanted.stages)
    if not wanted.is_pipeline:
        stages = (stages[0].model_copy(update={"name": name}),)
    text = preset_text(form, stages, name)
    with tempfile.TemporaryDirectory(prefix="workbench-preset-") as folder:
        trial = Path(folder) / f"{name}.toml"
        trial.write_text(text, encoding="utf-8")
        if load_preset(str(trial)).stages != stages:
            raise SpecError(f"{form.source} cannot be rewritten; copy the file and edit it by hand")
    path = form.home / "presets" / f"{name}.toml"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(path, text)
    return path


def preset_text(form: Form, stages: tuple[Spec, ...], name: str) -> str:
    """The text of a form's source with the fields in which `stages` differ written anew."""
    known = preset_files(form.home)
    path = known.get(form.source, Path(form.source).expanduser())
    try:
        source = path.read_text(encoding="utf-8")
        head, gap, body = source.partition("\n\n")
        is_about = all(line.startswith("#") for line in head.splitlines())
        document = tomlkit.parse(body if is_about and gap else source)
    except (OSError, ValueError, TOMLKitError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from None
    document["name"] = name
    for place, (before, after) in enumerate(zip(form.base.stages, stages, strict=True)):
        for keys, value in _differences(before, after):
            if keys != ("name",):
                _write(document, place, keys, value)
    return f"{_about(form)}\n\n{tomlkit.dumps(document).lstrip()}"


def _about(form: Form) -> str:
    """The comment at the top: what the source said of itself, and what was changed."""
    changes = form.changes()
    named = [printable(f"{change.override}") for change in changes[:NAMED]]
    more = [f"{len(changes) - NAMED} more"] if len(changes) > NAMED else []
    told = f" with {', '.join(named + more)}" if named else ""
    origin = Path(form.source).name if "/" in form.source else form.source
    about = f"{form.base.about} From {printable(origin)}{told}.".strip()
    return "\n".join(f"# {line}" for line in textwrap.wrap(about, WIDTH, break_on_hyphens=False))


def _differences(
    before: Section, after: Section, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The path and new value of each field that differs, down to the last table of the spec."""
    for name in type(after).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if isinstance(old, Section) and isinstance(new, Section):
            yield from _differences(old, new, (*path, name))
        elif old != new:
            yield (*path, name), after.model_dump(exclude_none=True).get(name)


def _write(document: tomlkit.TOMLDocument, place: int, path: tuple[str, ...], value: Any) -> None:
    """Put a value into the table of one stage; None takes it out."""
    stages = cast(Any, document).get("stages")
    table = stages[place] if stages is not None else document
    if value is not None:
        _put(table, path, value)
        return
    _take(table, path)
    if stages is not None and (shared := _take(document, path)) is not None:
        # It stood above all stages: the others keep it.
        for other, stage in enumerate(stages):
            if other != place and _find(stage, path) is None:
                _put(stage, path, shared)


def _put(table: Any, path: tuple[str, ...], value: Any) -> None:
    is_new = False
    for part in path[:-1]:
        if is_new := part not in table:
            table[part] = tomlkit.table()
        table = table[part]
    table[path[-1]] = value
    if is_new and not isinstance(value, dict):
        table.add(tomlkit.nl())


def _find(table: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        if not isinstance(table, AbstractTable | tomlkit.TOMLDocument | dict) or part not in table:
            return None
        table = table[part]
    return table


def _take(table: Any, path: tuple[str, ...]) -> Any:
    """Remove a key and return its value; None where there is none."""
    value = _find(table, path)
    if value is not None:
        del _find(table, path[:-1])[path[-1]]
        return value.unwrap() if hasattr(value, "unwrap") else value
    return None
