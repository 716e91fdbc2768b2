"""Where runs live on disk, and the folders and files of one run."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from rlhf_engine.job.errors import SpecError, nearest
from rlhf_engine.runs.checkpoints import copy_into

if TYPE_CHECKING:
    from rlhf_engine.job.spec import Spec


class RunNotFound(Exception):
    """No run of that id; the message names the nearest one."""


def home_folder(override: str | Path | None = None) -> Path:
    """`override`, else $WORKBENCH_HOME, else the platform's user data folder; made if missing."""
    chosen = override or os.environ.get("WORKBENCH_HOME")
    path = Path(chosen) if chosen else Path(platformdirs.user_data_dir("rlhf-workbench"))
    path = path.expanduser().resolve()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@dataclass(frozen=True)
class RunDir:
    """The paths of one run; its id is the folder's name."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def home(self) -> Path:
        return self.path.parent.parent

    @property
    def spec_file(self) -> Path:
        return self.path / "run.toml"

    @property
    def store(self) -> Path:
        return self.path / "run.db"

    @property
    def inbox(self) -> Path:
        return self.path / "inbox"

    @property
    def lock(self) -> Path:
        return self.path / "engine.lock"

    @property
    def log(self) -> Path:
        return self.path / "engine.log"

    @property
    def pipeline_file(self) -> Path:
        return self.path / "pipeline.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def output(self) -> Path:
        return self.path / "output"

    def spec(self) -> "Spec":
        """The resolved spec that the run was created with."""
        # Slow to import, and a list of runs needs none of it.
        import tomlkit

        from rlhf_engine.job.presets import parse_spec

        try:
            table = tomlkit.parse(self.spec_file.read_text(encoding="utf-8")).unwrap()
        except (OSError, ValueError) as error:
            raise SpecError(f"{self.spec_file}: cannot be read: {error}") from None
        return parse_spec(table, str(self.spec_file))


def create_run(home: Path, spec: "Spec", checkpoint: Path | None = None) -> RunDir:
    """Make a run's folder with its spec inside; two runs of one second get different ids.

    A `checkpoint` of another run is copied into it. It is a run once its spec is written, which
    comes last. Raises SpecError, and leaves nothing, where the copy fails.
    """
    import tomlkit

    stamp = time.strftime("%Y%m%d-%H%M%S")
    runs = home / "runs"
    runs.mkdir(mode=0o700, exist_ok=True)
    path = runs / f"{stamp}-{spec.name}"
    while True:
        try:
            path.mkdir(mode=0o700)
            break
        except FileExistsError:
            path = runs / f"{stamp}-{spec.name}-{os.urandom(2).hex()}"
    run = RunDir(path)
    for folder in (run.inbox, run.checkpoints):
        folder.mkdir(mode=0o700)
    if checkpoint is not None:
        try:
            wrong = copy_into(run.checkpoints, checkpoint)
        except OSError as error:
            wrong = str(error)
        if wrong:
            shutil.rmtree(path)
            raise SpecError(f"{checkpoint} could not be copied: {wrong}")
    write_private(run.spec_file, tomlkit.dumps(spec.model_dump(exclude_none=True)))
    return run


def write_private(path: Path, text: str) -> None:
    """Write a file readable by its owner alone, whole or not at all."""
    part = path.with_name(path.name + ".tmp")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def all_runs(home: Path) -> Iterator[RunDir]:
    """Every run of a home, newest first."""
    folder = home / "runs"
    if folder.is_dir():
        for path in sorted(folder.iterdir(), reverse=True):
            if re.match(r"\d{8}-\d{6}-", path.name) and (path / "run.toml").is_file():
                yield RunDir(path)


def find_run(home: Path, key: str) -> RunDir:
    """The run of that id; an unfinished id, a name or `last` finds the newest that fits."""
    runs = list(all_runs(home))
    if key == "last" and runs:
        return runs[0]
    exact = [run for run in runs if run.id == key]
    named = [run for run in runs if run.id[16:] == key]
    begun = [run for run in runs if run.id.startswith(key)]
    if found := exact or named or begun:
        return found[0]
    hint = nearest(key, [run.id for run in runs][:20]) if runs else "there are no runs yet"
    raise RunNotFound(f"no run {key!r} in {home}: {hint}")
