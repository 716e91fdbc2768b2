"""Which runs a person compares and how: up to four, each in a slot with a letter and a colour."""

from dataclasses import dataclass, field
from typing import Literal

from rlhf_engine.runs.directory import RunDir

Rgb = tuple[int, int, int]
Axis = Literal["step", "time", "KL"]
SLOT_COUNT = 4
LETTERS = "ABCD"
# Okabe and Ito (2008): told apart by colour-blind people; for dark and for light themes.
SLOTS: tuple[tuple[Rgb, Rgb], ...] = (
    ((86, 180, 233), (0, 95, 153)),
    ((230, 159, 0), (150, 95, 0)),
    ((60, 195, 154), (0, 112, 79)),
    ((220, 130, 180), (150, 50, 110)),
)
SMOOTHINGS = (0.9, 0.97, 0.0)


def slot_colour(slot: int, dark: bool) -> str:
    """The colour of a slot as a style."""
    red, green, blue = SLOTS[slot][0 if dark else 1]
    return f"#{red:02x}{green:02x}{blue:02x}"


@dataclass
class Board:
    """What a person compares and how; it outlives the screen. A run keeps its slot."""

    slots: list[RunDir | None] = field(default_factory=lambda: [None] * SLOT_COUNT)
    hidden: set[str] = field(default_factory=set)
    metric: str = ""
    axis: Axis = "step"
    log: bool | None = None
    smoothing: float = SMOOTHINGS[0]
    grid: bool = False

    @property
    def runs(self) -> list[RunDir]:
        return [run for run in self.slots if run is not None]

    @property
    def marks(self) -> dict[str, int]:
        """The slot of each run by its id."""
        return {run.id: slot for slot, run in enumerate(self.slots) if run is not None}

    def add(self, run: RunDir) -> bool:
        """Give the run a free slot; False if there is none."""
        if run in self.slots:
            return True
        if None not in self.slots:
            return False
        self.slots[self.slots.index(None)] = run
        return True

    def remove(self, run: RunDir) -> None:
        if run in self.slots:
            self.slots[self.slots.index(run)] = None
            self.hidden.discard(run.id)

    def clear(self) -> None:
        """Compare nothing."""
        self.slots = [None] * SLOT_COUNT
        self.hidden.clear()

    def keep(self, ids: set[str]) -> None:
        """Drop the runs that are not among these: they were deleted."""
        for run in self.runs:
            if run.id not in ids:
                self.remove(run)
