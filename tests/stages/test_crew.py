"""What the further processes of a run do with the orders of the first one."""

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from rlhf_engine.crew import EVALUATE, STEP, Led, follow
from rlhf_engine.fitting import Sizes
from rlhf_engine.job.presets import load_preset
from rlhf_engine.memory import peak_memory
from rlhf_engine.progress import Reporter
from rlhf_engine.ranks import Ranks
from rlhf_engine.runs.schema import SIZES
from rlhf_engine.runs.writer import StoreWriter
from rlhf_engine.stages.stage import Stage, StepRecord


class Wire(Ranks):
    """Orders that one side gives and the other reads, in this process."""

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "orders", deque())

    def tell(self, message: Any) -> Any:
        orders = cast("deque[Any]", vars(self)["orders"])
        if message is None:
            return orders.popleft() if orders else ("end",)
        orders.append(message)
        return message


class Watched:
    """A stage that says how many rows at once each of its parts may have."""

    total_steps, base, held_out = 9, "", 4

    def __init__(self, sizes: Sizes, seen: list[tuple[str, int]]) -> None:
        self._sizes = sizes
        self._seen = seen

    def _part(self, name: str) -> None:
        self._sizes.fit(lambda: self._seen.append((name, self._sizes.micro_batch)))

    def step(self, step: int, knobs: Mapping[str, float]) -> StepRecord:
        self._part(f"{STEP} {step} a")
        self._part(f"{STEP} {step} b")
        return StepRecord({}, [])

    def evaluate(self, knobs: Mapping[str, float]) -> StepRecord:
        self._part(EVALUATE)
        return StepRecord({}, [])


def sizes_of(path: Path) -> Sizes:
    store = StoreWriter(path)
    store.set_fact(SIZES, '[[3, 2, "micro_batch_size", 4]]')
    report = Reporter(store, lambda: False, peak_memory("cpu"))
    return Sizes(load_preset("smoke").stages[0], store, report)


def test_all_processes_have_the_same_rows_at_once(tmp_path: Path) -> None:
    """What ran out of memory alone is gone on with in two: shares must be of the same blocks."""
    wire = Wire()
    lead, mate = sizes_of(tmp_path / "lead.db"), sizes_of(tmp_path / "mate.db")
    ours: list[tuple[str, int]] = []
    theirs: list[tuple[str, int]] = []
    led = Led(lambda: cast(Stage, Watched(lead, ours)), wire, lead)
    for step in (2, 3, 4):
        lead.fit_step(step, lambda step=step: led.step(step, {}))  # type: ignore[misc]
        with lead.apart():
            led.evaluate({})
    follow(lambda: cast(Stage, Watched(mate, theirs)), wire, mate, seed=0)
    assert [rows for _, rows in ours] == [16, 16, 16, 16, 4, 4, 4, 4, 4]
    assert theirs == ours
