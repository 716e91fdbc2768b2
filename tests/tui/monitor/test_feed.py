"""The feed: complete at once, then only what is new."""

from pathlib import Path

from rlhf_engine.runs import inbox
from rlhf_engine.runs.writer import StoreWriter
from tests.tui.fake_run import alive, fake_run, folder
from workbench.feed import RunFeed


def test_rows_arrive_once_and_in_order(tmp_path: Path) -> None:
    fake = fake_run(tmp_path)
    fake.steps(10)
    feed = RunFeed(fake.run)
    first = feed.look()
    assert [row.step for row in first.steps] == list(range(1, 11))
    assert feed.look() is first
    fake.steps(5)
    fake.samples("p", "r", 3)
    second = feed.look()
    assert [row.step for row in second.steps] == list(range(1, 16))
    assert second.steps[:10] == first.steps
    assert len(second.samples) == 3
    assert second.generation == first.generation


def test_a_resumed_run_is_read_anew_without_the_steps_it_does_again(tmp_path: Path) -> None:
    fake = fake_run(tmp_path)
    fake.steps(10)
    feed = RunFeed(fake.run)
    before = feed.look()
    later = StoreWriter(fake.run.store)
    later.start_session(resumed_from_step=6)
    now = feed.look()
    assert [row.step for row in now.steps] == [1, 2, 3, 4, 5, 6]
    assert now.generation != before.generation


def test_before_there_is_a_store_and_after_the_run_was_deleted(tmp_path: Path) -> None:
    run = folder(tmp_path)
    feed = RunFeed(run)
    with alive(run):
        assert feed.look().state.word == "starting"
    assert feed.look().state.word == "lost"
    run.spec_file.unlink()
    assert feed.look().problem == "the run was deleted; q goes back"


def test_a_store_that_is_no_database_is_a_problem_in_words(tmp_path: Path) -> None:
    run = folder(tmp_path)
    run.store.write_bytes(b"not a database at all" * 100)
    assert "cannot read the run" in RunFeed(run).look().problem


def test_pending_commands_are_part_of_what_changes(tmp_path: Path) -> None:
    fake = fake_run(tmp_path)
    feed = RunFeed(fake.run)
    feed.look()
    sent = inbox.send(fake.run.inbox, "pause")
    assert [command.id for command in feed.look().pending] == [sent]


def test_a_long_run_is_complete_in_one_look(tmp_path: Path) -> None:
    fake = fake_run(tmp_path, total=20_000)
    fake.steps(20_000)
    assert len(RunFeed(fake.run).look().steps) == 20_000


def test_a_run_that_is_gone_or_unreadable_is_told_once(tmp_path: Path) -> None:
    fake = fake_run(tmp_path)
    fake.steps(3)
    feed = RunFeed(fake.run)
    feed.look()
    feed.close()
    fake.store.close()
    whole = fake.run.store.read_bytes()
    fake.run.store.write_bytes(b"not a database at all" * 100)
    told = feed.look()
    assert (told.state.word, told.state.step, len(told.steps)) == ("unreadable", 3, 3)
    assert feed.look() is told
    fake.run.store.write_bytes(whole)
    assert feed.look().state.word == "lost"
    fake.run.spec_file.unlink()
    gone = feed.look()
    assert gone.state.word == "deleted"
    assert feed.look() is gone
