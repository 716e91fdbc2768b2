"""What the list of runs does to a run on disk; each may take its time and runs in a thread."""

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

from rlhf_engine.job.errors import SpecError
from rlhf_engine.runs.inbox import Kind, send
from rlhf_engine.runs.lock import is_held
from workbench.runs_list import RunRow

if TYPE_CHECKING:
    from rlhf_engine.job.spec import Spec


@dataclass
class Told(Message):
    """How something that a thread did went; a `spec` is for the launch form."""

    text: str
    severity: str = "information"
    spec: "Spec | None" = None


def start(row: RunRow) -> Told:
    """Start the engine of a run that has ended."""
    from rlhf_engine.runs.launch import start_engine

    # Starting would make the folder of a deleted run anew.
    if not row.run.spec_file.exists():
        return _refused(row, f"was not started: {row.run.spec_file} is gone")
    try:
        start_engine(row.run)
    except (SpecError, OSError) as error:
        return _refused(row, f"was not started: {error}")
    how = "goes on from its last checkpoint" if row.saved else "starts again from its first step"
    return Told(f"{row.id} {how}")


def post(row: RunRow, kind: Kind, then: str) -> Told:
    """Put a command into the run's inbox."""
    try:
        send(row.run.inbox, kind, client="tui")
    except OSError as error:
        return _refused(row, f"{kind} was not sent: {error}; put that right, then again")
    return Told(f"sent: {kind} to {row.id}; {then}")


def duplicate(row: RunRow) -> Told:
    """Read the run's spec for a new run."""
    try:
        return Told("", spec=row.run.spec())
    except SpecError as error:
        return _refused(row, str(error))


def delete(row: RunRow) -> Told:
    """Remove the run's folder, unless an engine has it by now."""
    if is_held(row.run.lock):
        return Told(f"{row.id} runs again: not deleted; stop it first (x)", "warning")
    try:
        shutil.rmtree(row.run.path)
    except OSError as error:
        return _refused(row, f"could not be deleted whole: {error}; put that right, then D")
    return Told(f"deleted {row.id}")


def _refused(row: RunRow, why: str) -> Told:
    if not row.run.path.exists():
        return Told(f"{row.id} was deleted meanwhile", "warning")
    return Told(f"{row.id}: {why}", "error")
