"""What a checkpoint holds: written whole into its folder or not at all, and read back."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_engine.runs.checkpoints import VALUES, folder_of, seal, sync, values_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class State:
    """Everything the next step depends on: tensors by file, plain values as JSON."""

    tensors: "dict[str, dict[str, Tensor]]"
    values: dict[str, Any] = field(default_factory=dict)


def save(checkpoints: Path, step: int, state: State) -> int:
    """Write a checkpoint beside its place, sync it, move it there; return its size in bytes.

    Where it cannot be written, what was begun is removed and the error goes on: an OSError, or
    safetensors' own.
    """
    from safetensors.torch import save_file

    part = checkpoints / f"step-{step:06d}.tmp"
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(mode=0o700)
        for name, tensors in state.tensors.items():
            plain = {key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}
            save_file(plain, part / f"{name}.safetensors")
        (part / VALUES).write_text(json.dumps(state.values), encoding="utf-8")
        size = seal(part, step)
        place = folder_of(checkpoints, step)
        shutil.rmtree(place, ignore_errors=True)
        part.rename(place)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    sync(checkpoints)
    return size


def load(folder: Path) -> State:
    """Read a checkpoint that was found sound."""
    from safetensors.torch import load_file

    tensors = {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}
    return State(tensors, values_of(folder))
