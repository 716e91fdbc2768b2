"""Rows are read from every kind of source, and damaged ones are named by file and row."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlhf_engine.data import files
from rlhf_engine.data.errors import DataError
from rlhf_engine.data.sources import read_rows

ROWS: list[dict[str, Any]] = [
    {"prompt": "hi", "completion": "héllo"},
    {"prompt": "a, b", "completion": "x\ny"},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def write(path: Path, data: bytes) -> str:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def message(path: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_rows(path, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "first"),
    [
        ("a.jsonl", LINES, 1),
        ("a.jsonl.gz", LINES, 1),
        ("a.v2.JSONL", b"\xef\xbb\xbf" + LINES, 1),
        ("a.jsonl", b"\n\n" + LINES.replace(b"\n", b"\r\n"), 3),
        ("a.json", json.dumps(ROWS).encode(), 1),
        ("a.json.gz", json.dumps({"data": ROWS}, indent=2).encode(), 1),
        ("a.json", LINES, 1),
        ("a.csv", 'prompt,completion\nhi,héllo\n"a, b","x\ny"\n'.encode(), 1),
        ("a.csv.gz", b"\xef\xbb\xbf" + 'prompt,completion\nhi,héllo\n"a, b","x\ny"\n'.encode(), 1),
    ],
)
def test_every_text_file_gives_the_same_rows(
    tmp_path: Path, name: str, data: bytes, first: int
) -> None:
    rows = read_rows(write(tmp_path / name, data))
    assert [row.fields for row in rows] == ROWS
    assert rows[0].where == f"{name}:{first}"


def test_parquet_and_its_limit(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert [r.fields for r in read_rows(str(tmp_path / "a.parquet"))] == ROWS
    assert [r.where for r in read_rows(str(tmp_path / "a.parquet"), limit=1)] == ["a.parquet:1"]


def test_saved_datasets_with_and_without_splits(tmp_path: Path) -> None:
    plain = datasets.Dataset.from_list(ROWS)
    plain.save_to_disk(str(tmp_path / "plain"))
    datasets.DatasetDict(train=plain, test=plain.select([1])).save_to_disk(str(tmp_path / "both"))
    assert [r.fields for r in read_rows(str(tmp_path / "plain"))] == ROWS
    assert [r.fields for r in read_rows(str(tmp_path / "both"), split="test")] == ROWS[1:]
    assert "Splits there: train, test" in message(str(tmp_path / "both"), split="dev")
    assert "Leave the split out" in message(str(tmp_path / "plain"), split="dev")
    (tmp_path / "plain" / "state.json").write_text("{")
    assert "cannot be opened" in message(str(tmp_path / "plain"))


def test_a_folder_that_was_not_saved_names_the_files_in_it(tmp_path: Path) -> None:
    write(tmp_path / "pairs.jsonl", LINES)
    assert "Give one of its files: pairs.jsonl" in message(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.jsonl", LINES + b'{"prompt": \n', ["a.jsonl:3", "not valid JSON"]),
        ("a.jsonl", LINES + b'{"prompt": "\x00"}\n', ["a.jsonl:3", "not valid JSON"]),
        ("a.jsonl", LINES + b"\x00\x00\x00\n", ["a.jsonl:3", "not valid JSON"]),
        ("a.jsonl", LINES + b"[1, 2]\n", ["a.jsonl:3", "must be an object", "a list"]),
        ("a.jsonl", LINES + b"null\n", ["a.jsonl:3", "must be an object", "empty"]),
        ("a.jsonl", b"[" * 200_000, ["a.jsonl:1", "beyond what can be read"]),
        ("a.jsonl", b'{"n": ' + b"9" * 5000 + b"}", ["a.jsonl:1", "beyond what can be read"]),
        ("a.jsonl", LINES + b'{"prompt": "\xff"}\n', ["a.jsonl:3", "byte 13", "UTF-8"]),
        ("a.jsonl", gzip.compress(LINES, mtime=0), ["a.jsonl:1", "UTF-8", ".gz"]),
        ("a.json", b'[{"prompt": "a"}, "b"]', ["a.json:2", "must be an object", "text"]),
        ("a.json", b'{"rows": []}', ["a.json", "list of objects"]),
        ("a.json", b'[{"prompt":\n "a",}]', ["a.json", "line 2"]),
        ("a.jsonl", b"", ["a.jsonl", "no rows"]),
        ("a.json.gz", b" \n", ["a.json.gz", "no rows"]),
        ("a.csv", b"prompt,completion\n", ["a.csv", "no rows"]),
        ("a.csv", b"prompt,completion\na,b\nc\n", ["a.csv:2", "1 cells", "prompt, completion"]),
        ("a.csv", b"prompt,completion\na,b,c\n", ["a.csv:1", "3 cells", "Quote"]),
        ("a.csv", b'prompt,completion\na,"b\n', ["a.csv:1", "not valid CSV"]),
        ("a.parquet", LINES, ["a.parquet:1", "not a readable Parquet"]),
        ("a.txt", LINES, ["a.txt", "unknown kind", ".jsonl"]),
    ],
)
def test_damage_is_named_by_file_and_row(
    tmp_path: Path, name: str, data: bytes, says: list[str]
) -> None:
    said = message(write(tmp_path / name, data))
    assert all(part in said for part in says), said


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "a.csv.gz"])
def test_a_half_downloaded_gzip_is_named(tmp_path: Path, name: str) -> None:
    whole = gzip.compress(b"prompt,completion\n" * 2 if "csv" in name else LINES)
    (tmp_path / name).write_bytes(whole[:-9])
    assert "gzip data is damaged or incomplete" in message(str(tmp_path / name))
    (tmp_path / name).write_bytes(b"not gzip at all")
    assert "gzip data is damaged or incomplete" in message(str(tmp_path / name))


def test_an_endless_line_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_ROW_BYTES", 2**20)
    bomb = write(tmp_path / "a.jsonl.gz", LINES + b'{"prompt": "' + b"a" * 2**22)
    said = message(bomb)
    assert "a.jsonl.gz:3" in said
    assert "longer than 1 MiB" in said


def test_a_long_line_within_bounds_is_read(tmp_path: Path) -> None:
    long = "a" * 5_000_000
    path = write(tmp_path / "a.csv", f"prompt,completion\n{long},b\n".encode())
    assert read_rows(path)[0].fields["prompt"] == long


def test_the_limit_stops_before_later_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", LINES + b"broken\n")
    assert len(read_rows(path, limit=2)) == 2


def test_a_missing_file_suggests_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path / "pairs.jsonl", LINES)
    assert str(tmp_path / "pairs.jsonl") in message(str(tmp_path / "pair.jsonl"))
    assert "similar name" in message(str(tmp_path / "zzzzzzzz.csv"))
    assert f"Did you mean {tmp_path}" in message(str(tmp_path) + "x/pairs.jsonl")


def test_a_file_refuses_a_split_and_a_subset(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", LINES)
    assert "no split 'test'" in message(path, split="test")
    assert "subset 'en'" in message(path, subset="en")


def test_a_hub_id_goes_to_the_hub_without_remote_code(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def load(*args: Any, **options: Any) -> list[dict[str, Any]]:
        calls.append((args, options))
        return ROWS

    monkeypatch.setattr(datasets, "load_dataset", load)
    rows = read_rows("org/name", split="test", subset="en")
    assert rows[1].where == "org/name:2"
    assert calls == [(("org/name", "en"), {"split": "test"})]


def test_an_unreachable_hub_says_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise ConnectionError("Couldn't reach 'org/name' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    said = message("org/name")
    assert "Couldn't reach" in said
    assert "HF_TOKEN" in said


def test_reading_a_plain_file_imports_no_heavy_library(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", LINES)
    code = (
        "import sys; from rlhf_engine.data import inspect, sources, tokens;"
        f"sources.read_rows({path!r});"
        "print([m for m in ('torch','transformers','datasets','pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
