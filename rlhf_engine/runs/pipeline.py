"""The runs that one pipeline was launched as: each run's folder names them all, in their order."""

import json
from collections.abc import Mapping

from rlhf_engine.runs.directory import RunDir, write_private


def write_pipeline(stages: Mapping[str, RunDir]) -> None:
    """Write into each run's folder which runs, by the names of their stages, belong together."""
    text = json.dumps({name: run.id for name, run in stages.items()})
    for run in stages.values():
        write_private(run.pipeline_file, text)


def pipeline_of(run: RunDir) -> dict[str, RunDir]:
    """The runs launched together with this one by the names of their stages, in their order.

    Empty for a run that was launched alone; a run that was deleted since is still named.
    """
    try:
        stages = json.loads(run.pipeline_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(stages, dict):
        return {}
    return {name: RunDir(run.path.parent / str(key)) for name, key in stages.items()}
