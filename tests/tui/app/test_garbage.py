"""Python looks for unreachable cycles between keys, and does not forget to."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench import garbage
from workbench.app import WorkbenchApp


class Knot:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def gc_as_before() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def knots(count: int) -> weakref.ref[Knot]:
    made = [Knot() for _ in range(count)]
    return weakref.ref(made[0])


def test_what_screens_make_is_not_looked_through_until_it_is_tidied(gc_as_before: None) -> None:
    with garbage.loading():
        assert not gc.isenabled()
    assert gc.isenabled()
    looks: list[str] = []
    gc.callbacks.append(lambda phase, _: looks.append(phase))
    try:
        knot = knots(garbage.AT_LATEST // 3)
        assert not looks
        assert knot() is not None
        garbage.tidy()
    finally:
        gc.callbacks.pop()
    assert knot() is None


def test_now_and_then_everything_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    generations: list[int] = []
    monkeypatch.setattr(gc, "collect", generations.append)
    for _ in range(2 * garbage.TIDYINGS_TO_ALL):
        garbage.tidy()
    assert generations.count(2) == 2
    assert generations.count(1) == 2 * (garbage.TIDYINGS_TO_ALL - 1)


async def test_the_screens_tidy_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidied = asyncio.Event()
    monkeypatch.setattr("workbench.app.tidy", tidied.set)
    async with WorkbenchApp(tmp_path).run_test():
        await asyncio.wait_for(tidied.wait(), 60)
