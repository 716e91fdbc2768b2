"""What cannot be shown or done is said with the next step."""

from pathlib import Path

import pytest

from rlhf_engine.runs import inbox
from tests.tui.fake_run import fake_run, folder
from tests.tui.monitor.conftest import viewing
from workbench.feed import RunFeed
from workbench.samples_feed import SamplesFeed


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_an_unreadable_run_says_so_and_takes_nothing(
    home: Path, size: tuple[int, int]
) -> None:
    run = folder(home)
    run.store.write_bytes(b"not a database at all" * 100)
    async with viewing(home, run, size) as viewer:
        await viewer.sees("✗ unreadable", "cannot read the run", "workbench doctor")
        await viewer.press("r")
        await viewer.sees("not sent: cannot read the run: file")
        assert "starting" not in viewer.text
        await viewer.press("]", "enter", "p", "c", "X", "b")
        assert viewer.app.screen is viewer.monitor
        assert inbox.pending(run.inbox) == []
        await viewer.press("4", "i")
        await viewer.sees("put a copy of its folder back")
        await viewer.press(*"why", "enter")
        await viewer.sees("not sent: cannot read the run")
        assert inbox.pending(run.inbox) == []


def break_down(self: object) -> None:
    raise RuntimeError("what nobody thought of")


async def test_a_display_that_stopped_can_be_opened_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = fake_run(home)
    fake.steps(3)
    with monkeypatch.context() as broken:
        broken.setattr(RunFeed, "look", break_down)
        broken.setattr(SamplesFeed, "look", break_down)
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("the display has stopped", "q, then 3 opens it again")
            await viewer.press("4")
            await viewer.sees("the display has stopped", "q, then 4 opens it again")
            broken.undo()
            await viewer.press("q", "4")
            await viewer.press("1", "3")
            await viewer.sees("step 3/500")


async def test_a_stage_without_samples_names_what_it_has_instead(home: Path) -> None:
    for stage, asks in (("sft", True), ("reward", False)):
        fake = fake_run(home, stage, stage)
        async with viewing(home, fake.run) as viewer:
            await viewer.sees(stage)
            await viewer.press("s")
            await viewer.sees(f"a run of stage {stage} writes no samples")
            assert ("then i asks its policy" in viewer.text) is asks
            await viewer.press("t")
            await viewer.sees("no numbers yet", "L shows")
