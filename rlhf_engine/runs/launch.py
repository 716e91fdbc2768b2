"""Creating runs from a preset and starting their engines, detached from whoever asked."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import Preset, link_stages
from rlhf_engine.job.spec import SPEC, CollectSpec, EvaluateSpec, PpoSpec, Spec, inputs
from rlhf_engine.runs.directory import RunDir, create_run, find_run
from rlhf_engine.runs.lock import is_held


def launch(home: Path, preset: Preset, name: str | None = None) -> list[RunDir]:
    """Create and start every run of a preset; each waits for the ones that it reads from.

    Relative paths in the specs are taken from the working folder of the caller.
    """
    ids: dict[str, str] = {}
    runs = []
    for spec in preset.stages:
        title = _title(preset, spec, name)
        resolved = absolute_paths(link_stages(spec, ids).model_copy(update={"name": title}))
        for parent in inputs(resolved):
            find_run(home, parent)
        run = create_run(home, resolved)
        ids[spec.name] = run.id
        runs.append(run)
    for run in runs:
        start_engine(run)
    return runs


def _title(preset: Preset, spec: Spec, name: str | None) -> str:
    title = name or preset.name
    return f"{title}-{spec.name}" if preset.is_pipeline else name or spec.name


def start_engine(run: RunDir) -> None:
    """Start (or resume) a run's engine in a session of its own, so that no terminal ends it.

    Raises SpecError if it runs already.
    """
    if is_held(run.lock):
        raise SpecError(f"{run.id} is running already")
    log = os.open(run.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "rlhf_engine", str(run.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=run.path,
            start_new_session=True,
        )
    finally:
        os.close(log)


def absolute_paths(spec: Spec) -> Spec:
    """The spec with every existing local path made absolute: the engine works elsewhere."""
    table = spec.model_dump()
    table["policy"] = _absolute(spec.policy)
    table["data"]["path"] = _absolute(spec.data.path)
    if spec.data.eval_path:
        table["data"]["eval_path"] = _absolute(spec.data.eval_path)
    if isinstance(spec, CollectSpec | PpoSpec | EvaluateSpec):
        judge: dict[str, Any] = table["reward"]
        judge["score"] = _absolute(spec.reward.score)
        judge["gold"] = [_absolute(source) for source in spec.reward.gold]
    if isinstance(spec, EvaluateSpec):
        table["evaluate"]["against"] = [_absolute(path) for path in spec.evaluate.against]
    return SPEC.validate_python(table)


def _absolute(source: str) -> str:
    file, separator, function = source.rpartition(":")
    for path, rest in ((source, ""), (file, separator + function), (f"{file}.py", f":{function}")):
        if path not in ("", ".py") and (found := Path(path).expanduser()).exists():
            return f"{found.resolve()}{rest}"
    return source
