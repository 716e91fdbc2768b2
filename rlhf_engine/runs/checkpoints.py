"""Checkpoint folders of a run on disk: listed, checked by hash, pruned, copied; never opened."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
VALUES = "state.json"
# Anything else beside them, such as a person's copy, is none.
FOLDER = re.compile(r"step-(\d{6,})")
ASIDE = ".damaged"
PART = ".tmp"


@dataclass(frozen=True)
class Found:
    """The checkpoint to go on from, and what was wrong with newer ones, by their steps."""

    step: int
    folder: Path | None
    damaged: Mapping[int, str] = field(default_factory=dict)


def folder_of(checkpoints: Path, step: int) -> Path:
    return checkpoints / f"step-{step:06d}"


def saved(checkpoints: Path) -> Iterator[tuple[int, Path]]:
    """Steps and folders of all checkpoints, newest first."""
    named = [(FOLDER.fullmatch(path.name), path) for path in checkpoints.glob("step-*")]
    found = [(int(name[1]), path) for name, path in named if name and path.is_dir()]
    yield from sorted(found, reverse=True)


def newest_sound(checkpoints: Path, up_to: int, known: Iterable[int] = ()) -> Found:
    """The newest checkpoint at or before a step whose files have the recorded hashes.

    `known` are steps that had one: those without a folder now are named as missing.
    """
    folders = dict(saved(checkpoints))
    damaged: dict[int, str] = {}
    for step in sorted({*folders, *known}, reverse=True):
        if step <= up_to:
            folder = folders.get(step)
            wrong = fault(folder) if folder else "its folder is missing"
            if wrong is None:
                return Found(step, folder, damaged)
            damaged[step] = f"checkpoint {folder_of(checkpoints, step).name}: {wrong}"
    return Found(0, None, damaged)


def set_aside(checkpoints: Path, steps: Iterable[int]) -> None:
    """Rename damaged checkpoints: they would count among those that are kept."""
    for step in steps:
        folder = folder_of(checkpoints, step)
        if folder.is_dir():
            aside = folder.with_name(folder.name + ASIDE)
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)


def fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files; None if all have the hashes of its manifest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, digest in manifest["sha256"].items():
            if _digest(folder / name) != digest:
                return f"{name} is damaged (its SHA-256 differs)"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read: {error}"
    return None


def values_of(folder: Path) -> dict[str, Any]:
    """The plain values beside the tensors of a sound checkpoint."""
    values: dict[str, Any] = json.loads((folder / VALUES).read_text(encoding="utf-8"))
    return values


def seal(folder: Path, step: int) -> int:
    """Write the manifest of a folder's files and sync them all; return their size in bytes."""
    files = {path.name: _digest(path) for path in folder.iterdir()}
    manifest = {"step": step, "sha256": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in [*folder.iterdir(), folder]:
        path.chmod(0o700 if path.is_dir() else 0o600)
        sync(path)
    return size_of(folder)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def remove_parts(checkpoints: Path) -> None:
    """Remove what a kill left of checkpoints that were being written."""
    for path in checkpoints.glob(f"step-*{PART}"):
        shutil.rmtree(path, ignore_errors=True)


def prune(checkpoints: Path, keep: int, spare: int) -> list[int]:
    """Remove all but the newest and the one of the step `spare`; return the steps that went."""
    others = [(step, folder) for step, folder in saved(checkpoints) if step != spare]
    return _remove(others[keep:])


def remove_after(checkpoints: Path, step: int) -> list[int]:
    """Remove every checkpoint of a later step; return the steps that went."""
    return _remove([(later, folder) for later, folder in saved(checkpoints) if later > step])


def _remove(folders: list[tuple[int, Path]]) -> list[int]:
    for _, folder in folders:
        shutil.rmtree(folder)
    return [step for step, _ in folders]


def copy_into(checkpoints: Path, folder: Path) -> str | None:
    """Copy a checkpoint of another run; return what is wrong with the copy, None if it is sound."""
    place = checkpoints / folder.name
    shutil.copytree(folder, place)
    for path in [*place.iterdir(), place, checkpoints]:
        sync(path)
    return fault(place)


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
