"""Creating runs from a preset and starting their engines, detached from whoever asked."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import Preset, link_stages, parse_spec
from rlhf_engine.job.spec import SPEC, CollectSpec, EvaluateSpec, PpoSpec, Spec
from rlhf_engine.runs.directory import RunDir, create_run, find_run
from rlhf_engine.runs.lock import HANDED_OVER, Lock, engine_text
from rlhf_engine.runs.pipeline import write_pipeline


def launch(home: Path, preset: Preset, name: str | None = None) -> list[RunDir]:
    """Create and start every run of a preset; each waits for the ones that it reads from."""
    runs = create(home, preset, name)
    for run in runs:
        start_engine(run)
    return runs


def create(home: Path, preset: Preset, name: str | None = None) -> list[RunDir]:
    """Create every run of a preset and start none.

    Relative paths in the specs are taken from the working folder of the caller.
    """
    resolved = ready(home, preset, name)
    ids: dict[str, str] = {}
    runs = []
    for spec, named in zip(preset.stages, resolved, strict=True):
        run = create_run(home, link_stages(named, ids))
        ids[spec.name] = run.id
        runs.append(run)
    if preset.is_pipeline:
        write_pipeline({spec.name: run for spec, run in zip(preset.stages, runs, strict=True)})
    return runs


def ready(home: Path, preset: Preset, name: str | None = None) -> list[Spec]:
    """The specs that `launch` would start, but for the links between them.

    Raises SpecError or RunNotFound for what could not be launched.
    """
    return [resolve(home, spec, _title(preset, spec, name)) for spec in preset.stages]


def _title(preset: Preset, spec: Spec, name: str | None) -> str:
    title = name or preset.name
    return f"{title}-{spec.name}" if preset.is_pipeline else name or spec.name


def start_engine(run: RunDir) -> None:
    """Start a run's engine in a session of its own, so that no terminal ends it.

    The run's lock is taken here and handed over: from this moment on the run is alive until its
    engine ends, however long that takes to start. Raises SpecError if it runs already.
    """
    # Before the lock, whose folder would be made: a run that was deleted stays so.
    log = os.open(run.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    lock = Lock.take(run.lock, "{}")
    if lock is None:
        os.close(log)
        raise SpecError(f"{run.id} is running already")
    try:
        engine = subprocess.Popen(
            [sys.executable, "-P", "-m", "rlhf_engine", str(run.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=run.path,
            start_new_session=True,
            pass_fds=[lock.descriptor],
            env={**os.environ, HANDED_OVER: str(lock.descriptor)},
        )
        lock.write(engine_text(engine.pid))
    finally:
        os.close(log)
        lock.release()


def resolve(home: Path, spec: Spec, name: str) -> Spec:
    """The spec under its run's name, with whole run ids and absolute paths: the engine works in
    another folder.

    Raises SpecError for a bad name, RunNotFound for a run that does not exist.
    """

    def found(source: str) -> str:
        if source.startswith("run:"):
            return f"run:{find_run(home, source.removeprefix('run:')).id}"
        return _absolute(source)

    # What was valid stays valid: only the name is new.
    return parse_spec(_with_sources(spec, found) | {"name": name}, "--name")


def absolute_sources(spec: Spec) -> Spec:
    """The spec with the local paths that it reads from made absolute."""
    return SPEC.validate_python(_with_sources(spec, _absolute))


def _with_sources(spec: Spec, found: Callable[[str], str]) -> dict[str, Any]:
    """The spec's table with everything that it reads from as `found` says it."""
    table = spec.model_dump() | {"policy": found(spec.policy)}
    read = [table["data"], *([table["ppo"]["ptx"]["data"]] if isinstance(spec, PpoSpec) else [])]
    for data in read:
        data |= {name: found(data[name]) for name in ("path", "eval_path") if data[name]}
    if isinstance(spec, CollectSpec | PpoSpec | EvaluateSpec):
        judge: dict[str, Any] = table["reward"]
        judge["score"] = found(spec.reward.score)
        judge["gold"] = [found(source) for source in spec.reward.gold]
    if isinstance(spec, EvaluateSpec):
        table["evaluate"]["against"] = [found(path) for path in spec.evaluate.against]
    return table


def _absolute(source: str) -> str:
    """A local path, or the file before `:function`, made absolute; anything else as it is."""
    if source.startswith(("builtin:", "rule:", "stage:")):
        return source
    file, separator, function = source.rpartition(":")
    for path, rest in ((source, ""), (file, separator + function), (f"{file}.py", f":{function}")):
        if path not in ("", ".py") and (found := Path(path).expanduser()).exists():
            return f"{found.resolve()}{rest}"
    return source
