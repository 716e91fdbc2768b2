"""How many rows are in memory at once: what the spec says, halved where that does not fit."""

import gc
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any, TypeVar

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.remedies import remedies
from rlhf_engine.job.spec import Spec
from rlhf_engine.progress import Reporter
from rlhf_engine.ranks import Ranks
from rlhf_engine.runs.schema import SIZES
from rlhf_engine.runs.writer import StoreWriter

T = TypeVar("T")
# A step, and how many of its parts were begun.
Point = tuple[int, int]
# The phases that sample, and those with a backward pass.
GENERATE = "generate"
BACKWARD = ("train", "update")
# Where a stage's section says how many rows are in memory at once.
MICRO_BATCH = ("micro_batch_size", "batches.micro_batch_size")
SAMPLING = "sampling.batch_size"
# How allocators other than Python's and torch's own on CUDA say it, in a RuntimeError.
PHRASES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "std::bad_alloc",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def out_of_memory(fault: BaseException) -> bool:
    """Whether an allocation failed, on the device or on the host."""
    if isinstance(fault, MemoryError) or type(fault).__name__ == "OutOfMemoryError":
        return True
    if not isinstance(fault, RuntimeError):
        return False
    # What fails because of it, such as the end of a graph's capture, is raised over it.
    behind = None if fault.__suppress_context__ else fault.__context__
    return any(phrase in str(fault) for phrase in PHRASES) or (
        behind is not None and out_of_memory(behind)
    )


@dataclass(frozen=True)
class Shrink:
    """From a point of a run on, a field of the spec counts as fewer rows.

    `turn` numbers the parts of a step that are done again alone; 0 is the step as a whole.
    """

    step: int
    turn: int
    field: str
    rows: int

    @property
    def point(self) -> Point:
        return self.step, self.turn


class Sizes:
    """The sizes in force at a point of the run; none of them changes a result beyond rounding.

    What was found is a fact of the run, with the point it was found at, so that whoever does a
    step again works with the sizes that the run had in each of its parts.
    """

    def __init__(
        self, spec: Spec, store: StoreWriter, report: Reporter, ranks: Ranks | None = None
    ) -> None:
        self._spec = spec
        self._store = store
        self._report = report
        self._ranks = ranks or Ranks()
        found = store.query("SELECT value FROM run WHERE key = ?", SIZES)
        rows = self._ranks.tell(json.loads(found[0][0]) if found else [])
        self._shrinks = [Shrink(*row) for row in rows]
        self._lasting = True
        self.point: Point = (0, 0)

    def begin(self, step: int) -> None:
        """Be at the beginning of a step."""
        self.point = (step, 0)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What is found inside counts there alone: the steps go on with the sizes they have."""
        before = list(self._shrinks), self.point
        self._lasting = False
        try:
            yield
        finally:
            self._shrinks, self.point = before
            self._lasting = True

    @property
    def sampling(self) -> int:
        """Responses generated at once; one in a stage that answers people alone."""
        return 1 if self._asked(SAMPLING) is None else self._rows(SAMPLING)

    @property
    def micro_batch(self) -> int:
        """Rows (or pairs, or responses) in one pass that trains or scores."""
        return self._rows(self._micro_batch)

    @property
    def _micro_batch(self) -> str:
        """The field of that size; stages that only sample have one size for everything."""
        return next((name for name in MICRO_BATCH if self._asked(name) is not None), SAMPLING)

    def _asked(self, name: str) -> int | None:
        found: Any = getattr(self._spec, self._spec.stage)
        for part in name.split("."):
            found = getattr(found, part, None)
        return None if found is None else int(found)

    def _rows(self, name: str) -> int:
        rows = self._asked(name)
        assert rows is not None, f"{self._spec.stage} has no {name}"
        for shrink in self._shrinks:
            if shrink.field == name and shrink.point <= self.point:
                rows = min(rows, shrink.rows)
        return rows

    def fit_step(self, step: int, work: Callable[[], T]) -> T:
        """Do a step, as `fit` does a part of it."""
        return self._fit((step, 0), work)

    def fit(self, work: Callable[[], T]) -> T:
        """Do a part of a step, again with half the rows whenever memory runs out.

        It must leave nothing behind when it fails. Raises SpecError with the cheapest remedies
        where one row at once is too much. Several processes work in step, so none of them can
        do a thing again on its own: there the fault goes on.
        """
        step, turn = self.point
        return self._fit((step, turn + 1), work)

    def _fit(self, point: Point, work: Callable[[], T]) -> T:
        while True:
            self.point = point
            try:
                return work()
            except Exception as fault:
                if self._ranks.size > 1 or not out_of_memory(fault):
                    raise
            # Out here the fault is gone, and with it the frames that held its tensors.
            self._halve(self._report.doing, point)
            _free()

    def _halve(self, phase: str, point: Point) -> None:
        name = SAMPLING if phase == GENERATE else self._micro_batch
        rows, field = self._rows(name), f"{self._spec.stage}.{name}"
        if rows == 1:
            cheapest = ", ".join(remedies(self._spec, backward=phase in BACKWARD))
            raise SpecError(
                f"out of memory in step {point[0]} ({phase}) with {field}=1; the cheapest "
                f"remedies: {cheapest}"
            )
        less = rows // 2
        self._shrinks.append(Shrink(*point, name, less))
        text = (
            f"out of memory with {name.removeprefix('batches.')} {rows}: {phase} of step "
            f"{point[0]} redone with {less}; set {field}={less} to start with it"
        )
        with self._store.transaction():
            self._store.event(point[0], "warn", "memory", text)
            if self._lasting:
                found = json.dumps([astuple(shrink) for shrink in self._shrinks])
                self._store.set_fact(SIZES, found)


def _free() -> None:
    """Give back what nobody holds any more, and torch's cache of it."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
