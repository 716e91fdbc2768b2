"""Pages of 50,000 samples: every order, search, a sample's place, and what a rollback hides."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_engine.runs.inbox import Command
from rlhf_engine.runs.listing import ORDERS, Order, SampleLine, Selection
from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.sample import Sample
from rlhf_engine.runs.writer import StoreWriter

MANY = 50_000


def sample(number: int) -> Sample:
    return Sample(
        "eval" if number % 100 == 0 else "train",
        f"p{number % 1000}",
        f"prompt {number % 1000}",
        f"response {number} " + "x" * 400,
        True,
        score=None if number % 7 == 0 else (number * 37 % 1009) / 10,
        kl=(number * 53 % 997) / 7,
        net_reward=number % 13 - 6.0,
        tokens=range(1 + number % 5),
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "run.db"
    store = StoreWriter(path)
    store.start_session(None)
    with store.transaction():
        for step in range(1, MANY // 8 + 1):
            store.samples(step, [sample(8 * step + i) for i in range(8)])
    store.close()
    return path


@pytest.fixture
def reader(path: Path) -> Iterator[StoreReader]:
    found = StoreReader.open(path)
    assert found is not None
    with found:
        yield found


def key(line: SampleLine, order: Order) -> float | None:
    value = line.seq if order == "newest" else getattr(line, order)
    return None if value is None else float(value)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("order", ORDERS)
def test_pages_follow_each_other_in_every_order(
    reader: StoreReader, order: Order, reverse: bool
) -> None:
    chosen = Selection(order, reverse)
    pages = [chosen.lines(reader, start, 100) for start in (0, 100, MANY // 2, MANY - 50)]
    assert [len(page) for page in pages] == [100, 100, 100, 50]
    keys = [key(line, order) for page in pages for line in page]
    known = [value for value in keys if value is not None]
    assert known == sorted(known, reverse=not reverse)
    assert keys == known + [None] * (len(keys) - len(known)), "without a figure they come last"
    assert len({line.seq for page in pages for line in page}) == len(keys)
    for start, page in zip((0, 100, MANY // 2), pages, strict=False):
        assert chosen.place(reader, page[3].seq) == start + 3


def test_a_page_takes_a_moment_only(reader: StoreReader) -> None:
    for order in ORDERS:
        chosen = Selection(order)
        begun = time.process_time()
        lines = chosen.lines(reader, 30_000, 100)
        assert chosen.place(reader, lines[50].seq) == 30_050
        assert chosen.count(reader) == MANY
        assert time.process_time() - begun < 1.0, order


def test_kind_prompt_and_words_select(reader: StoreReader) -> None:
    assert Selection(kind="eval").count(reader) == MANY // 100
    assert {line.prompt_id for line in Selection(prompt_id="p17").lines(reader, 0, 99)} == {"p17"}
    (line,) = Selection(text="RESPONSE 1234 ").lines(reader, 0, 10)
    assert line.response.startswith("response 1234 x")
    assert len(line.response) <= 240
    assert Selection(text="100%").count(reader) == 0, "a sign of LIKE means itself"
    assert Selection(text="response_1").count(reader) == 0


def test_a_step_is_found_or_the_nearest_one(reader: StoreReader) -> None:
    chosen = Selection("score")

    def step_of(seq: int | None) -> int:
        assert seq is not None
        found = reader.sample(seq)
        assert found is not None
        return found.step

    assert step_of(chosen.at_step(reader, 400)) == 400
    assert step_of(chosen.at_step(reader, 10**9)) == MANY // 8
    assert step_of(chosen.at_step(reader, -5)) == 1
    assert Selection(text="nowhere").at_step(reader, 3) is None


def test_answers_to_people_outlast_a_resume_and_not_a_rollback(tmp_path: Path) -> None:
    store = StoreWriter(tmp_path / "run.db")
    store.start_session(None)
    for step in (1, 2, 3):
        store.samples(step, [sample(step)])
    asked = Sample("asked", "mine", "Why?", "Because.", True, detail={"command": "1-a"})
    store.samples(3, [asked])
    store.measured(3, {"eval_loss": float("nan")}, "1-b")
    store.command(Command("1-a", "sample", {}, "", 0.0), "applied", 3)
    reader = StoreReader.open(tmp_path / "run.db")
    assert reader is not None
    store.start_session(1, "resume")
    kinds = [(row.step, row.sample.kind) for row in reader.samples()]
    assert kinds == [(3, "asked"), (1, "train")], "step 3 is to be done again, its answer is not"
    assert Selection().count(reader) == 2
    assert [row.step for row in reader.measured()] == [3]
    store.start_session(1, "rollback")
    assert [row.step for row in reader.samples()] == [1]
    assert reader.measured() == []
    store._db.execute("DROP TABLE measured")
    assert reader.measured() == [], "a store of an earlier version"
