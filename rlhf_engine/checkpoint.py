"""Checkpoints: written whole, checked by hash, the newest sound one is used."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class State:
    """Everything the next step depends on: tensors by file, plain values as JSON."""

    tensors: "dict[str, dict[str, Tensor]]"
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """The checkpoint to resume from, and what was wrong with newer ones."""

    step: int
    folder: Path | None
    damaged: tuple[str, ...] = ()


def folder_of(checkpoints: Path, step: int) -> Path:
    return checkpoints / f"step-{step:06d}"


def save(checkpoints: Path, step: int, state: State) -> int:
    """Write a checkpoint beside its place, sync it, move it there; return its size in bytes."""
    from safetensors.torch import save_file

    part = checkpoints / f"step-{step:06d}.tmp"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    for name, tensors in state.tensors.items():
        plain = {key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}
        save_file(plain, part / f"{name}.safetensors")
    (part / "state.json").write_text(json.dumps(state.values), encoding="utf-8")
    files = {path.name: _digest(path) for path in part.iterdir()}
    manifest = {"step": step, "sha256": files}
    (part / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    size = sum(path.stat().st_size for path in part.iterdir())
    for path in [*part.iterdir(), part]:
        path.chmod(0o700 if path.is_dir() else 0o600)
        _sync(path)
    place = folder_of(checkpoints, step)
    shutil.rmtree(place, ignore_errors=True)
    part.rename(place)
    _sync(checkpoints)
    return size


def load(folder: Path) -> State:
    """Read a checkpoint that `newest_sound` found."""
    from safetensors.torch import load_file

    tensors = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    return State(tensors, json.loads((folder / "state.json").read_text(encoding="utf-8")))


def newest_sound(checkpoints: Path, up_to: int) -> Found:
    """The newest checkpoint at or before a step whose files have the recorded hashes."""
    damaged: list[str] = []
    for step, folder in saved(checkpoints):
        if step <= up_to:
            fault = _fault(folder)
            if fault is None:
                return Found(step, folder, tuple(damaged))
            damaged.append(f"checkpoint {folder.name}: {fault}")
    return Found(0, None, tuple(damaged))


def saved(checkpoints: Path) -> Iterator[tuple[int, Path]]:
    """Steps and folders of all checkpoints, newest first."""
    folders = [p for p in checkpoints.glob("step-*") if p.suffix != ".tmp" and p.is_dir()]
    for folder in sorted(folders, reverse=True):
        yield int(folder.name.removeprefix("step-")), folder


def prune(checkpoints: Path, keep: int) -> list[int]:
    """Remove all but the newest; return the steps that went."""
    gone = list(saved(checkpoints))[keep:]
    for _, folder in gone:
        shutil.rmtree(folder)
    return [step for step, _ in gone]


def _fault(folder: Path) -> str | None:
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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
