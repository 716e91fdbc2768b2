"""The samples of a run, read in a thread: a page around the cursor, one sample with its tokens."""

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.listing import SampleLine, Selection
from rlhf_engine.runs.reader import CommandRow, SampleRow, StoreReader
from rlhf_engine.runs.sample import ASKED
from rlhf_engine.runs.state import RunState, run_state
from workbench.token_colours import MODES, scale_of, token_values
from workbench.token_rewards import TokenRewards
from workbench.unreadable import DELETED, UNREADABLE, cannot_read

POLL_SECONDS = 0.5
AROUND = 100
# The newest samples whose tokens set the scales of the colours.
SCALED_BY = 64


@dataclass(frozen=True)
class Want:
    """What a screen needs: a selection, the sample under the cursor (None for the first one), a
    step to go to instead, and the command whose answer is awaited."""

    selection: Selection = field(default_factory=Selection)
    seq: int | None = None
    step: int | None = None
    asked: str = ""


@dataclass(frozen=True)
class SampleView:
    """What was read for a want. `lines` begin at number `start` of `total`; `place` is the
    cursor's number; `rewards` are those of the sample's tokens, `whitened` says that the run
    scaled them afterwards; `problem` says in words why the run cannot be read now."""

    want: Want = field(default_factory=Want)
    state: RunState = field(default_factory=lambda: RunState("starting"))
    total: int = 0
    start: int = 0
    place: int = 0
    lines: tuple[SampleLine, ...] = ()
    sample: SampleRow | None = None
    rewards: tuple[float, ...] = ()
    whitened: bool = False
    scales: dict[str, float] = field(default_factory=dict)
    answer: CommandRow | None = None
    answers: tuple[SampleRow, ...] = ()
    problem: str = ""


class SamplesFeed:
    """Follows one run's samples; a new want is read at once."""

    def __init__(self, run: RunDir, want: Want) -> None:
        self._run = run
        self._want = want
        self._wake = threading.Event()
        self._reader: StoreReader | None = None
        self._seen: tuple[int, Want] | None = None
        self._now = SampleView()
        self._scaled = 0
        self._rewards = TokenRewards(run)

    def ask_for(self, want: Want) -> None:
        self._want = want
        self._wake.set()

    def stop(self) -> None:
        self._wake.set()

    def follow(self, tell: Callable[[SampleView], object], stop: threading.Event) -> None:
        """Tell each change until `stop` is set; runs in a thread of its own."""
        told: SampleView | None = None
        try:
            while not stop.is_set():
                self._wake.clear()
                if (now := self.look()) is not told:
                    tell(now)
                    told = now
                self._wake.wait(POLL_SECONDS)
        finally:
            self.close()

    def look(self) -> SampleView:
        """The samples as they are now; the view of before if nothing has changed."""
        want, problem = self._want, ""
        try:
            state = run_state(self._run)
            if self._reader is None:
                self._reader = StoreReader.open(self._run.store)
            if self._reader is not None:
                seen = self._reader.version(), want
                if seen != self._seen:
                    self._now = self._load(self._reader, want)
                    self._seen = seen
        except (sqlite3.Error, OSError, ValueError) as error:
            self.close()
            state, problem = RunState(UNREADABLE, str(error)), cannot_read(error)
        if not self._run.spec_file.exists():
            state, problem = RunState(DELETED), "the run was deleted; esc goes back"
        if (state, problem) != (self._now.state, self._now.problem):
            self._now = replace(self._now, state=state, problem=problem)
        return self._now

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader, self._seen = None, None

    def _load(self, reader: StoreReader, want: Want) -> SampleView:
        chosen, seq = want.selection, want.seq
        if want.step is not None:
            seq = chosen.at_step(reader, want.step)
        place = chosen.place(reader, seq) if seq is not None else None
        start = max(0, (place or 0) - AROUND)
        lines = tuple(chosen.lines(reader, start, 2 * AROUND + 1))
        if place is None:
            # The first one, also where a selection has left the cursor's sample out.
            seq, place = (lines[0].seq, 0) if lines else (None, 0)
        answer = reader.command(want.asked) if want.asked else None
        sample = self._sample(reader, seq)
        return replace(
            self._now,
            want=want,
            total=chosen.count(reader),
            start=start,
            place=place,
            lines=lines,
            sample=sample,
            rewards=self._rewards.of(reader, sample) if sample is not None else (),
            whitened=self._rewards.whitened,
            scales=self._scales(reader),
            answer=answer,
            answers=_answers(reader, answer) if answer else (),
        )

    def _sample(self, reader: StoreReader, seq: int | None) -> SampleRow | None:
        """The sample under the cursor; it never changes once it is written."""
        before = self._now.sample
        if before is not None and before.seq == seq:
            return before
        return reader.sample(seq) if seq is not None else None

    def _scales(self, reader: StoreReader) -> dict[str, float]:
        """What counts as full colour, from the newest samples; kept until twice as many exist."""
        newest = reader.samples(limit=1)
        count = newest[0].seq if newest else 0
        if count < 2 * self._scaled or not count:
            return self._now.scales
        self._scaled = count
        rows = reader.samples(limit=SCALED_BY)
        samples = [(row.sample, self._rewards.of(reader, row)) for row in rows]
        return {
            mode: scale_of(
                value
                for sample, rewards in samples
                for value in token_values(sample, rewards, mode)
            )
            for mode in MODES[1:]
        }


def _answers(reader: StoreReader, answer: CommandRow) -> tuple[SampleRow, ...]:
    rows = reader.samples(kind=ASKED, step=answer.step)[::-1]
    return tuple(row for row in rows if row.sample.detail.get("command") == answer.id)
