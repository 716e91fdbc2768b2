"""What a launch form can start from: shipped presets, one's own, a file, the spec of a run."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import own_presets, preset_files
from rlhf_engine.job.spec import Spec
from rlhf_engine.runs.directory import all_runs
from rlhf_engine.runs.sample import printable


def offered(home: Path, given: str | None) -> list[str]:
    """The sources to choose from, one that was asked for and is no preset first."""
    known = list(preset_files(home))
    return [given, *known] if given and given not in known else known


def titles(home: Path, sources: list[str]) -> Iterator[tuple[str, str]]:
    """Each source with what a list calls it."""
    own = own_presets(home)
    for source in sources:
        path = Path(source)
        if path.name == "run.toml":
            yield source, printable(f"run {path.parent.name}")
        else:
            yield source, printable(f"{path.stem} (yours)" if source in own else path.stem)


def spec_file(home: Path, spec: Spec) -> str | None:
    """The run.toml that holds this spec, of the newest such run."""
    for run in all_runs(home):
        if spec.name in run.id:
            with suppress(SpecError):
                if run.spec() == spec:
                    return str(run.spec_file)
    return None
