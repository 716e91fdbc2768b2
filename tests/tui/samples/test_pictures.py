"""The samples screen as text, in the two sizes that it is drawn for."""

from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from rlhf_engine.runs.writer import Outcome
from tests.tui.fake_run import HOSTILE, alive, fake_run
from tests.tui.samples.conftest import reading, sample, trained

SIZES = pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=["120x40", "80x24"])
Size = tuple[int, int]


@SIZES
async def test_a_live_run(home: Path, size: Size, snapshot: SnapshotAssertion) -> None:
    fake = fake_run(home)
    trained(fake, 30)
    with alive(fake.run):
        async with reading(home, fake.run, size) as reader:
            await reader.sees("1/60", "? Help" if size[0] > 100 else "q Back")
            await reader.press("down", "right", "right")
            await reader.sees("2/60")
            assert await reader.picture(snapshot) == snapshot
            await reader.press("enter")
            await reader.sees("token 3/10" if size[0] < 100 else "PROMPT")
            assert await reader.picture(snapshot) == snapshot


@SIZES
async def test_a_failed_run(home: Path, size: Size, snapshot: SnapshotAssertion) -> None:
    fake = fake_run(home)
    trained(fake, 30)
    fake.store.end_session("failed", "CUDA out of memory in update\nlower ppo.micro_batch_size")
    async with reading(home, fake.run, size) as reader:
        await reader.sees("failed", "1/60")
        assert await reader.picture(snapshot) == snapshot
        await reader.press("tab", "v", "v", "v")
        await reader.sees("reward: -kl_coef")
        assert await reader.picture(snapshot) == snapshot


@SIZES
@pytest.mark.parametrize("stage", ["ppo", "sft", "reward"])
async def test_an_empty_run(
    home: Path, stage: str, size: Size, snapshot: SnapshotAssertion
) -> None:
    fake = fake_run(home, stage)
    with alive(fake.run):
        async with reading(home, fake.run, size) as reader:
            await reader.sees("running")
            assert await reader.picture(snapshot) == snapshot


@pytest.mark.parametrize(("outcome", "told"), [("done", "fork"), ("failed", "resume")])
async def test_an_empty_run_that_has_ended_says_how_to_go_on(
    home: Path, outcome: Outcome, told: str
) -> None:
    fake = fake_run(home)
    fake.store.end_session(outcome)
    async with reading(home, fake.run, (80, 24)) as reader:
        await reader.sees("recorded no samples", f"workbench {told}")


@SIZES
async def test_hostile_text(home: Path, size: Size, snapshot: SnapshotAssertion) -> None:
    fake = fake_run(home)
    fake.steps(3)
    pieces = [HOSTILE, "\n", "", "", "\U0001f680", "e\u0301", " \u6f22\u5b57", "\t", "x" * 200]
    figures = [float("nan"), float("inf"), -float("inf"), *[1e300] * 6]
    fake.store.samples(
        3,
        [
            sample(
                HOSTILE,
                "".join(pieces),
                pieces=pieces,
                logp=figures,
                advantage=figures[::-1],
                value=figures,
                score=float("nan"),
                kl=float("inf"),
                kind="eval",
            )
        ],
    )
    with alive(fake.run):
        async with reading(home, fake.run, size) as reader:
            await reader.sees("1/1")
            await reader.press("tab", "right") if size[0] < 100 else await reader.press("right")
            for keys in ((), ("t", "v"), ("v",), ("n", "N", "n")):
                await reader.press(*keys)
                assert not set(reader.text) & {"\x1b", "\x07", "\x9b", "\u202e"}
            assert await reader.picture(snapshot) == snapshot


async def test_a_response_of_100_000_characters(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(1)
    long = "word " * 20_000
    fake.store.samples(1, [sample(long, long, pieces=[long]), sample("short", "short")])
    with alive(fake.run):
        async with reading(home, fake.run) as reader:
            await reader.sees("1/2")
            await reader.press("down", "ctrl+d", "ctrl+d", "ctrl+u", "right", "t", "v")
            await reader.sees("2/2", "word", "enter shows all")
            await reader.press("space", "up", "d")
            await reader.sees("from step 1 to step 1")


@SIZES
async def test_a_question_and_its_answers(
    home: Path, size: Size, snapshot: SnapshotAssertion
) -> None:
    fake = fake_run(home)
    trained(fake, 12)
    with alive(fake.run):
        async with reading(home, fake.run, size) as reader:
            await reader.sees("1/24")
            await reader.press("i")
            await reader.press(*"Why?", "enter")
            await reader.sees("sent; it is answered when step 13 is done")
            (command,) = fake.answer()
            fake.store.samples(
                fake.step,
                [
                    sample(
                        "Why?",
                        text,
                        kind="asked",
                        prompt_id="mine",
                        kl=kl,
                        detail={"policy": who, "command": command.id},
                    )
                    for who, text, kl in (
                        ("policy", "Because of the light.", 2.5),
                        ("reference", f"It scatters {HOSTILE}. " * 12, None),
                    )
                ],
            )
            await reader.sees("policy · score", "reference · score", "scatters")
            assert await reader.picture(snapshot) == snapshot
