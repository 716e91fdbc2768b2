"""What every stage gives the loop, and what a step leaves behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rlhf_engine.checkpoint import State
from rlhf_engine.fitting import Sizes
from rlhf_engine.progress import Reporter
from rlhf_engine.ranks import Ranks
from rlhf_engine.runs.reader import SampleRow
from rlhf_engine.runs.sample import Sample


@dataclass(frozen=True)
class Warn:
    """Something a person should know about a step."""

    kind: str
    text: str


@dataclass(frozen=True)
class StepRecord:
    """What a finished step leaves: figures, samples, warnings, and a controller's knob changes."""

    metrics: Mapping[str, float]
    samples: Sequence[Sample] = ()
    warnings: Sequence[Warn] = ()
    next_knobs: Mapping[str, float] = field(default_factory=dict)


class Stage(Protocol):
    """A job that runs in steps; step n depends on the state after step n - 1 and on n alone."""

    total_steps: int
    base: str
    held_out: int
    """Held-out rows that `evaluate` measures."""

    def step(self, step: int, knobs: Mapping[str, float]) -> StepRecord:
        """Do one step with these knob values.

        What fails before the first update leaves nothing behind and can be done again; what comes
        after it deals with a lack of memory by itself (`Sizes.fit`).
        """
        ...

    def evaluate(self, knobs: Mapping[str, float]) -> StepRecord:
        """Measure the held-out rows as they are now; never called where there are none."""
        ...

    def ask(self, prompt: str, draw: str, knobs: Mapping[str, float]) -> list[Sample]:
        """Answers to a person's prompt, that of the policy first; `draw` names their draws.

        Raises SpecError with the reason where there is no answer. The first process of a run does
        this alone.
        """
        ...

    def state(self) -> State | None:
        """What the next step depends on; None if it depends on nothing but its number."""
        ...

    def load_state(self, state: State) -> None: ...

    def finish(self, folder: Path, samples: Sequence[SampleRow]) -> dict[str, Any]:
        """Write the output into an empty folder; return facts of the run, such as its result."""
        ...


@dataclass(frozen=True)
class Workplace:
    """What a stage is given beside its spec."""

    home: Path
    run_id: str
    device: Any
    report: Reporter
    sizes: Sizes
    ranks: Ranks = field(default_factory=Ranks)
