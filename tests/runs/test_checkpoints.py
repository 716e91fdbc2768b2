"""Checkpoint folders: which one is gone on from, and that damaged ones cost no sound one."""

from pathlib import Path

from rlhf_engine.runs.checkpoints import (
    folder_of,
    newest_sound,
    prune,
    remove_parts,
    saved,
    seal,
    set_aside,
)


def save(checkpoints: Path, *steps: int) -> None:
    for step in steps:
        folder = folder_of(checkpoints, step)
        folder.mkdir()
        (folder / "weights").write_bytes(bytes([step % 256]) * 8)
        seal(folder, step)


def damage(checkpoints: Path, *steps: int) -> None:
    for step in steps:
        (folder_of(checkpoints, step) / "weights").write_bytes(b"other")


def steps_in(checkpoints: Path) -> list[int]:
    return [step for step, _ in saved(checkpoints)]


def test_the_newest_sound_one_is_found_and_newer_ones_are_named(tmp_path: Path) -> None:
    save(tmp_path, 50, 100, 150, 200)
    damage(tmp_path, 150)
    found = newest_sound(tmp_path, 199, known=[50, 100, 150, 180, 200])
    assert (found.step, found.folder) == (100, folder_of(tmp_path, 100))
    assert found.damaged == {
        180: "checkpoint step-000180: its folder is missing",
        150: "checkpoint step-000150: weights is damaged (its SHA-256 differs)",
    }


def test_damaged_ones_do_not_push_out_those_that_are_saved_after_them(tmp_path: Path) -> None:
    save(tmp_path, 100, 150, 200)
    damage(tmp_path, 100, 150, 200)
    found = newest_sound(tmp_path, 200)
    assert found.step == 0
    set_aside(tmp_path, found.damaged)
    save(tmp_path, 50)
    assert prune(tmp_path, keep=3, spare=0) == []
    assert newest_sound(tmp_path, 50).step == 50


def test_what_is_set_aside_stays_and_gives_way_to_what_is_damaged_later(tmp_path: Path) -> None:
    for content in (b"first", b"later"):
        save(tmp_path, 7)
        (folder_of(tmp_path, 7) / "weights").write_bytes(content)
        set_aside(tmp_path, [7])
        assert steps_in(tmp_path) == []
        assert (tmp_path / "step-000007.damaged" / "weights").read_bytes() == content


def test_a_persons_copies_beside_them_are_left_alone(tmp_path: Path) -> None:
    save(tmp_path, 3, 1_000_004)
    for name in ("step-000003.bak", "step-000003 (copy)", "step-", "step-000009.tmp", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-000008").write_text("a file")
    assert steps_in(tmp_path) == [1_000_004, 3]
    assert prune(tmp_path, keep=1, spare=0) == [3]
    assert (tmp_path / "step-000003.bak").is_dir()


def test_what_a_kill_left_half_written_goes(tmp_path: Path) -> None:
    save(tmp_path, 3)
    (tmp_path / "step-000004.tmp").mkdir()
    (tmp_path / "step-000004.tmp" / "weights").write_bytes(b"half")
    remove_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000003"]
