"""Rows of one local file: JSON lines, JSON, CSV or Parquet, plain or gzipped."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rlhf_engine.data.errors import DataError

TYPE_NAMES = {
    list: "a list",
    dict: "an object",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "true or false",
}
Numbered = Iterator[tuple[int, dict[str, Any]]]

MAX_ROW_BYTES = 64 * 2**20
"""A longer line is no training text, and a gzip bomb, which has no line ends, would fill memory."""


def kind_of(path: Path) -> str:
    """Suffix that says how to read the file, without `.gz`: `.jsonl` for `pairs.jsonl.gz`."""
    suffixes = [s.lower() for s in path.suffixes]
    return (
        suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])
    )


def read_file(path: Path) -> Numbered:
    """Yield (file line for JSON lines, else row number; fields), both 1-based."""
    kind = kind_of(path)
    if kind not in READERS:
        raise DataError(
            f"{path.name}: unknown kind of file {kind!r}. Use one of {', '.join(READERS)}; "
            "all but .parquet may end in .gz"
        )
    try:
        yield from READERS[kind](path)
    except OSError as error:
        raise DataError(
            f"{path.name}: cannot be read ({error}). Check the file and its permissions"
        ) from None


def type_name(value: object) -> str:
    """Say what kind of value this is in words: `a list`, `text`, `empty`."""
    return "empty" if value is None else TYPE_NAMES.get(type(value), type(value).__name__)


def _open(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _damaged(path: Path, row: int, error: Exception) -> DataError:
    return DataError(
        f"{path.name}:{row}: the gzip data is damaged or incomplete ({error}). Fetch the file again"
    )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (line number, line) with a bound on the length of a line and no byte order mark."""
    number = 0
    with _open(path) as file:
        try:
            while line := file.readline(MAX_ROW_BYTES + 1):
                number += 1
                if len(line) > MAX_ROW_BYTES:
                    raise DataError(
                        f"{path.name}:{number}: the line is longer than "
                        f"{MAX_ROW_BYTES // 2**20} MiB. Write one row a line"
                    )
                yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _damaged(path, number + 1, error) from None


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: byte {error.start + 1} is not UTF-8. Save the file as UTF-8 "
            "(a compressed file must end in .gz)"
        ) from None


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = (
            f"line {error.lineno}, column {error.colno}"
            if error.lineno > 1
            else f"column {error.colno}"
        )
        raise DataError(
            f"{where}: not valid JSON: {error.msg} at {at}. Correct or remove it"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: JSON beyond what can be read ({error}). Correct or remove it"
        ) from None


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f'{where}: a row must be an object like {{"prompt": ...}}, not {type_name(value)}'
        )
    return value


def _jsonl(path: Path) -> Numbered:
    for number, line in _lines(path):
        if line.strip():
            where = f"{path.name}:{number}"
            yield number, _object(_parse(_text(line, where), where), where)


def _json(path: Path) -> Numbered:
    text = _text(_whole(path), path.name).removeprefix("\ufeff")
    if not text.strip():
        return
    if _is_lines(text):
        yield from _jsonl(path)
        return
    content = _parse(text, path.name)
    rows = content.get("data") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise DataError(f'{path.name}: must hold a list of objects, or {{"data": [...]}}')
    for number, row in enumerate(rows, 1):
        yield number, _object(row, f"{path.name}:{number}")


def _is_lines(text: str) -> bool:
    """Tell JSON lines named .json, of which the hub is full, by their complete first line."""
    first, _, rest = text.lstrip().partition("\n")
    try:
        return bool(rest.strip()) and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _whole(path: Path) -> bytes:
    with _open(path) as file:
        try:
            return file.read()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _damaged(path, 1, error) from None


def _csv(path: Path) -> Numbered:
    csv.field_size_limit(MAX_ROW_BYTES)
    lines = (_text(line, f"{path.name}, line {number}") for number, line in _lines(path))
    reader = csv.DictReader(lines, strict=True)
    row = 0
    try:
        for row, fields in enumerate(reader, 1):
            if None in fields or None in fields.values():
                columns = ", ".join(reader.fieldnames or [])
                raise DataError(
                    f"{path.name}:{row}: has {_cells(fields)} cells, but the header names "
                    f"{len(reader.fieldnames or [])} ({columns}). Quote cells that hold commas"
                )
            yield row, fields
    except csv.Error as error:
        raise DataError(f"{path.name}:{row + 1}: not valid CSV: {error}. Correct the row") from None


def _cells(fields: dict[Any, Any]) -> int:
    named = sum(value is not None for key, value in fields.items() if key is not None)
    return named + len(fields.get(None, []))


def _parquet(path: Path) -> Numbered:
    import pyarrow
    import pyarrow.parquet

    try:
        row = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for fields in batch.to_pylist():
                row += 1
                yield row, fields
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{path.name}:{row + 1}: not a readable Parquet file ({error}). Fetch or write it again"
        ) from None


READERS: dict[str, Callable[[Path], Numbered]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
