"""Samples as a PPO run records them, and an application that looks at them."""

import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.sample import Sample
from tests.tui.fake_run import FakeRun
from tests.tui.viewer import Viewer
from workbench.app import WorkbenchApp
from workbench.screens.samples import SamplesScreen


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("workbench.samples_feed.POLL_SECONDS", 0.02)
    return tmp_path


def sample(
    prompt: str = "How do I keep basil alive?",
    response: str = "Give it light and a little water.",
    *,
    pieces: Sequence[str] | None = None,
    prompt_id: str = "p0",
    score: float | None = 0.5,
    kl: float | None = 1.5,
    kind: str = "train",
    **more: object,
) -> Sample:
    """A sample with figures of its tokens: one word each, the third one extreme."""
    parts = list(pieces if pieces is not None else words(response))
    count = len(parts)
    ratio = [3.0 if i == 2 else -2.4 if i == 5 else 0.1 * i for i in range(count)]
    fields: dict[str, object] = {
        "finished": True,
        "net_reward": None if score is None or kl is None else score - 0.05 * kl,
        "pieces": parts,
        "tokens": [1000 + i for i in range(count)],
        "logp": [-0.5] * count,
        "ref_logp": [-0.5 - value for value in ratio],
        "advantage": [math.cos(i) for i in range(count)],
        "value": [0.25 * i for i in range(count)],
    }
    fields |= more
    return Sample(kind, prompt_id, prompt, response, score=score, kl=kl, **fields)  # type: ignore[arg-type]


def words(text: str) -> list[str]:
    """A text as tokens that begin with their blank."""
    first, *rest = text.split(" ")
    return [first, *(f" {word}" for word in rest)]


def trained(fake: FakeRun, steps: int) -> None:
    """Steps of two samples each: the same prompt with another answer, and one that varies."""
    chance = random.Random(3)
    for _ in range(steps):
        fake.steps(1)
        said = f"At step {fake.step} give it light and a little water."
        other = f"Prompt {fake.step}: why is the sky blue?"
        fake.store.samples(
            fake.step,
            [
                sample(response=said, score=chance.gauss(0, 1), kl=fake.step / 2),
                sample(
                    other,
                    "Light scatters; blue scatters most.",
                    prompt_id=f"q{fake.step}",
                    score=chance.gauss(0, 1),
                    kl=chance.random(),
                    finished=False,
                ),
            ],
        )


class Reader(Viewer):
    """A person in front of the samples."""

    @property
    def screen(self) -> SamplesScreen:
        return next(s for s in self.app.screen_stack if isinstance(s, SamplesScreen))


@asynccontextmanager
async def reading(
    home: Path, run: RunDir, size: tuple[int, int] = (120, 40), seq: int | None = None
) -> AsyncIterator[Reader]:
    app = WorkbenchApp(home)
    async with app.run_test(size=size) as pilot:
        app.push_screen(SamplesScreen(run, seq))
        await pilot.pause()
        yield Reader(app, pilot)
