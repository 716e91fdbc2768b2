"""A run in several processes: the loop of the first one leads the stages of all.

Every message is an order that all obey together; what a stage sums or gathers in between comes at
the same place in each of them.
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_engine.checkpoint import State
from rlhf_engine.fitting import Sizes
from rlhf_engine.ranks import Ranks
from rlhf_engine.runs.reader import SampleRow
from rlhf_engine.runs.sample import Sample
from rlhf_engine.seeding import seed_libraries
from rlhf_engine.stages.stage import Stage, StepRecord

BUILD, STEP, EVALUATE, LOAD, END = "build", "step", "evaluate", "load", "end"


class Led:
    """The stages of all processes, which the loop of the first one sees as one stage.

    State and output are the same in all of them and are taken from the first.
    """

    def __init__(self, build: Callable[[], Stage], ranks: Ranks, sizes: Sizes) -> None:
        ranks.tell((BUILD,))
        self._stage = build()
        self._ranks = ranks
        self._sizes = sizes
        self.total_steps = self._stage.total_steps
        self.base = self._stage.base
        self.held_out = self._stage.held_out

    def step(self, step: int, knobs: Mapping[str, float]) -> StepRecord:
        self._ranks.tell((STEP, step, dict(knobs)))
        return self._stage.step(step, knobs)

    def evaluate(self, knobs: Mapping[str, float]) -> StepRecord:
        self._ranks.tell((EVALUATE, self._sizes.point, dict(knobs)))
        return self._stage.evaluate(knobs)

    def ask(self, prompt: str, draw: str, knobs: Mapping[str, float]) -> list[Sample]:
        return self._stage.ask(prompt, draw, knobs)

    def state(self) -> State | None:
        return self._stage.state()

    def load_state(self, state: State) -> None:
        self._ranks.tell((LOAD, state))
        self._stage.load_state(state)

    def finish(self, folder: Path, samples: Sequence[SampleRow]) -> dict[str, Any]:
        return self._stage.finish(folder, samples)


def dismiss(ranks: Ranks) -> None:
    """Let the other processes end."""
    ranks.tell((END,))


def follow(build: Callable[[], Stage], ranks: Ranks, sizes: Sizes, seed: int) -> None:
    """Do what the first process does, with its sizes, until it says that the run is over."""
    stage: Stage | None = None
    while True:
        order = ranks.tell(None)
        match order:
            case (kind,) if kind == BUILD:
                # Gone before it is built anew: two of them may not fit.
                stage = None
                gc.collect()
                stage = build()
            case (kind, step, knobs) if kind == STEP and stage is not None:
                seed_libraries(seed, step)
                sizes.begin(step)
                stage.step(step, knobs)
            case (kind, point, knobs) if kind == EVALUATE and stage is not None:
                sizes.point = point
                stage.evaluate(knobs)
            case (kind, state) if kind == LOAD and stage is not None:
                stage.load_state(state)
            case _:
                return
