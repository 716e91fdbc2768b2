"""New runs made from old ones: forks from a checkpoint, and replays of a run with its changes."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.knobs import knobs_of
from rlhf_engine.job.presets import Table, apply_override, parse_spec
from rlhf_engine.job.spec import PpoSpec, Spec
from rlhf_engine.runs.checkpoints import fault, folder_of, values_of
from rlhf_engine.runs.directory import RunDir, create_run
from rlhf_engine.runs.launch import resolve, start_engine
from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.schema import SIZES
from rlhf_engine.runs.writer import StoreWriter

# A saved state was made under these and fits no other value of them.
OF_THE_STATE = {
    "stage": "another stage saves another state",
    "policy": "the adapters were trained on that start, and the KL is measured from it",
    "model": "the adapters were trained on that base as it was loaded",
    "lora": "the saved adapters have that shape",
    "eight_bit": "the saved moments have that precision",
    "fork": "it says where this run comes from",
}
# Changes that a replay must bring along. Controllers move their knobs again by themselves; so could
# guards, were it not for what only people did: checkpoints, and steps that were taken back.
BROUGHT = ("command", "schedule", "guard")
NAME_LENGTH = 61


def fork(
    parent: RunDir, step: int | None = None, overrides: Sequence[str] = (), name: str | None = None
) -> RunDir:
    """Start a run from a checkpoint of another, with its knobs as they were and overrides.

    Without a step, from the newest checkpoint. Raises SpecError if there is none of that step, or
    for a change that the saved state does not take.
    """
    spec = parent.spec()
    step, folder = _checkpoint(parent, step)
    before = spec.model_dump() | {"fork": {"run": parent.id, "step": step}}
    before["changes"] = [change for change in before["changes"] if change["step"] > step]
    if step > spec.begins_after:
        _put_knobs(before, spec, values_of(folder))
    tables = [copy.deepcopy(before)]
    for override in overrides:
        apply_override(tables, override)
    _check_state_fits(before, tables[0])
    child = parse_spec(tables[0], "--set")
    _check_value_role(spec, child)
    _check_length(parent, before, child)
    renamed = child.name if child.name != spec.name else _named(spec.name, "fork")
    return _start(resolve(parent.home, child, name or renamed), parent, folder)


def replay(original: RunDir, name: str | None = None) -> RunDir:
    """Start a run that does what another did: the same spec, its changes at the same steps.

    Its guards only advise until what they turn is no longer among these steps.
    """
    spec = original.spec()
    reader = StoreReader.open(original.store)
    changes, done = [], 0
    if reader is not None:
        with reader:
            rows = [row for row in reader.knobs() if row.source in BROUGHT]
            last = reader.last_step()
        changes = [{"step": row.step, "knob": row.name, "value": row.new} for row in rows]
        done = last.step if last else 0
    ahead = [change.model_dump() for change in spec.changes if change.step > done]
    table = spec.model_dump() | {"changes": [*changes, *ahead]}
    for guard in table.get("guards", []):
        if guard["mode"] == "act":
            guard["act_after"] = max(guard["act_after"], done - 1)
    table["name"] = name or _named(spec.name, "replay")
    start = _checkpoint(original, spec.fork.step)[1] if spec.fork else None
    return _start(parse_spec(table, "--name"), original, start)


def checkpoint_steps(run: RunDir) -> list[int]:
    """The steps of a run's checkpoints: those whose folder is there and that still count."""
    reader = StoreReader.open(run.store)
    if reader is None:
        return []
    with reader:
        steps = sorted({row.step for row in reader.checkpoints()})
    return [step for step in steps if folder_of(run.checkpoints, step).is_dir()]


def _checkpoint(run: RunDir, step: int | None) -> tuple[int, Path]:
    """A sound checkpoint of a run and its step; SpecError names the steps that have one."""
    steps = checkpoint_steps(run)
    if not steps:
        raise SpecError(f"{run.id} has no checkpoint to start from")
    chosen = steps[-1] if step is None else step
    if chosen not in steps:
        raise SpecError(
            f"{run.id} has no checkpoint of step {chosen}; there is one of "
            f"{', '.join(map(str, steps))}"
        )
    folder = folder_of(run.checkpoints, chosen)
    if wrong := fault(folder):
        others = ", ".join(str(other) for other in steps if other != chosen) or "none"
        raise SpecError(f"{run.id}: checkpoint {folder.name}: {wrong}; other steps: {others}")
    return chosen, folder


def _put_knobs(table: Table, spec: Spec, values: dict[str, Any]) -> None:
    """Write into a spec's table the knobs that the step after a checkpoint would run with."""
    now = values["knobs"] | values.get("moves", {}) | values.get("guarded", {})
    for name, knob in knobs_of(type(spec)).items():
        section = table
        for part in knob.path[:-1]:
            section = section[part]
        section[knob.path[-1]] = now.get(name, section[knob.path[-1]])


def _check_state_fits(before: Table, after: Table) -> None:
    """Raise SpecError for each change that the saved state does not take."""
    wrong = [
        f"--set: {key}: a fork keeps {was!r}: {reason}"
        for key, was, _ in _differences(before, after)
        for part, reason in OF_THE_STATE.items()
        if part in key.split(".")
    ]
    if wrong:
        raise SpecError("\n".join(wrong))


def _check_value_role(before: Spec, child: Spec) -> None:
    if not isinstance(before, PpoSpec) or not isinstance(child, PpoSpec):
        return
    saved, needed = _value_role(before), _value_role(child)
    if saved != needed:
        key = "ppo.value" if before.ppo.advantage == child.ppo.advantage else "ppo.advantage"
        raise SpecError(f"--set: {key}: the saved state has {saved}, and this needs {needed}")


def _value_role(spec: PpoSpec) -> str:
    return f"a {spec.ppo.value} value role" if spec.ppo.advantage == "gae" else "no value role"


def _check_length(parent: RunDir, before: Table, child: Spec) -> None:
    """Raise SpecError if the parent was at its end, and the fork is to be no longer."""
    reader = StoreReader.open(parent.store)
    assert reader is not None, "a run with a checkpoint has a store"
    with reader:
        total = reader.facts().get("total_steps")
    if total is None or child.begins_after < int(total):
        return
    if _length(before) != _length(child.model_dump()):
        return
    field = "steps" if "steps" in before[child.stage] else "batches.epochs"
    raise SpecError(
        f"step {child.begins_after} is the last one of {parent.id}; give the fork more of them: "
        f"--set {child.stage}.{field}=..."
    )


def _length(table: Table) -> list[Any]:
    """What the number of steps follows from."""
    section = table[table["stage"]]
    return [table["data"], section.get("steps"), section.get("batches")]


def _differences(was: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted paths of the fields that differ, with both values."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in was.keys() | now.keys():
            yield from _differences(was.get(key), now.get(key), f"{path}.{key}".lstrip("."))
    elif was != now:
        yield path, was, now


def _named(name: str, what: str) -> str:
    return f"{name.removesuffix(f'-{what}')[: NAME_LENGTH - len(what) - 1]}-{what}"


def _start(spec: Spec, original: RunDir, checkpoint: Path | None) -> RunDir:
    """Start the new run with the micro-batches that the original was found to have memory for."""
    run = create_run(original.home, spec, checkpoint)
    reader = StoreReader.open(original.store)
    if reader is not None:
        with reader:
            sizes = reader.facts().get(SIZES)
        if sizes:
            store = StoreWriter(run.store)
            store.set_fact(SIZES, sizes)
            store.close()
    start_engine(run)
    return run
