"""Rows from wherever a person keeps them: a file, a saved dataset or the hub."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from rlhf_engine.data.errors import DataError
from rlhf_engine.data.files import READERS, kind_of, read_file


class Row(NamedTuple):
    """One row as it was stored."""

    where: str
    """Place to show to a person: `pairs.jsonl:17` is line 17 of JSON lines, else row 17."""
    fields: dict[str, Any]


def read_rows(
    path: str, *, split: str = "train", subset: str | None = None, limit: int | None = None
) -> list[Row]:
    """Read rows from a file, a folder made by `save_to_disk`, or a dataset on the hub.

    Files are JSON lines, JSON, CSV (each plain or `.gz`) and Parquet. `split` and `subset` belong
    to datasets; with a file they are an error, as it would give the same rows for every split.
    Raises DataError with file and row. No code that comes with the data is ever run.
    """
    local = Path(path).expanduser()
    if local.is_dir():
        _refuse_subset(local, subset)
        name, numbered = local.name, _saved(local, split)
    elif local.exists():
        _refuse_subset(local, subset)
        if split != "train":
            raise DataError(
                f"{local.name}: one file has no split {split!r}. Leave the split out, "
                "or give the path of the file that holds it"
            )
        name, numbered = local.name, read_file(local)
    elif path.startswith(("/", ".", "~")) or kind_of(local) in READERS:
        raise DataError(f"{path}: no such file or folder. {_suggestion(local)}")
    else:
        name, numbered = path, _hub(path, split, subset)
    rows = [Row(f"{name}:{number}", fields) for number, fields in islice(numbered, limit)]
    if not rows:
        raise DataError(f"{name}: holds no rows. Check that it was written to the end")
    return rows


def _refuse_subset(local: Path, subset: str | None) -> None:
    if subset is not None:
        raise DataError(
            f"{local.name}: subset {subset!r} is for hub datasets. Leave it out for local data"
        )


def _suggestion(missing: Path) -> str:
    folder = missing.parent
    while not folder.is_dir():
        missing, folder = folder, folder.parent
    names = sorted(entry.name for entry in folder.iterdir())
    close = get_close_matches(missing.name, names, n=1, cutoff=0.5)
    return (
        f"Did you mean {folder / close[0]}?" if close else f"Nothing in {folder} has a similar name"
    )


def _saved(folder: Path, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    import datasets

    if not any((folder / name).exists() for name in ("state.json", "dataset_dict.json")):
        files = sorted(entry.name for entry in folder.iterdir() if kind_of(entry) in READERS)
        hint = f"Give one of its files: {', '.join(files[:5])}" if files else "Check the path"
        raise DataError(f"{folder}: not a dataset saved with save_to_disk. {hint}")
    try:
        saved = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder}: the saved dataset cannot be opened ({error}). Save it again"
        ) from None
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            raise DataError(f"{folder}: no split {split!r}. Splits there: {', '.join(saved)}")
        saved = saved[split]
    elif split != "train":
        raise DataError(f"{folder}: one saved dataset, no split {split!r}. Leave the split out")
    return _numbered(saved)


def _hub(name: str, split: str, subset: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    import datasets

    try:
        return _numbered(datasets.load_dataset(name, subset, split=split))
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip() or type(error).__name__
        raise DataError(
            f"{name}: not a local file, and the hub gave no dataset (split {split!r}, "
            f"subset {subset!r}): {reason}. Check the id, the network and, for a gated or private "
            "dataset, HF_TOKEN; or give the path of a local file"
        ) from None


def _numbered(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    return enumerate(rows, 1)
