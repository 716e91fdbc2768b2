"""The numbers of the compared runs as a table."""

from pathlib import Path

from tests.tui.compare.conftest import comparing, made
from tests.tui.fake_run import FakeRun
from workbench.widgets.numbers import NumbersPage


async def test_t_shows_the_numbers_behind_both_charts(
    home: Path, two: tuple[FakeRun, FakeRun]
) -> None:
    soft, strict = two
    soft.steps(1, kl=9.0, score=1.25)
    async with comparing(home, soft.run, strict.run, size=(160, 40)) as viewer:
        await viewer.settled()
        await viewer.until(lambda: viewer.compare._all[0].snapshot.last.step == 121)  # type: ignore[union-attr]
        viewer.app.board.metric = "score"
        await viewer.press("t")
        assert isinstance(viewer.app.screen, NumbersPage)
        head = next(line for line in viewer.text.splitlines() if "A score" in line)
        for column in ("step", "B score", "A sqrt(kl)", "B sqrt(kl)", "A gold", "B gold"):
            assert column in head
        assert "time" not in head
        last = next(line for line in viewer.text.splitlines() if " 121 " in line).split()
        assert last[2:5] == ["121", "1.25", "3.00"]
        await viewer.press("g")
        first = next(line for line in viewer.text.splitlines() if line.split()[2:3] == ["1"])
        scores = [float(cell) for cell in first.split()[3:9]]
        assert len(scores) == 6
        await viewer.press("t")
        assert viewer.app.screen is viewer.compare


async def test_over_time_the_table_has_the_seconds(
    home: Path, two: tuple[FakeRun, FakeRun]
) -> None:
    async with comparing(home, two[0].run, two[1].run, size=(160, 40)) as viewer:
        await viewer.settled()
        await viewer.press("x", "t")
        assert "A seconds run" in viewer.text


async def test_a_hidden_run_has_no_column(home: Path, two: tuple[FakeRun, FakeRun]) -> None:
    async with comparing(home, two[0].run, two[1].run) as viewer:
        await viewer.settled()
        await viewer.press("space", "t")
        assert "B sqrt(kl)" in viewer.text
        assert "A sqrt(kl)" not in viewer.text


async def test_without_a_step_there_is_no_table(home: Path) -> None:
    async with comparing(home, made(home, "100000", "new").run) as viewer:
        await viewer.settled()
        await viewer.press("t")
        await viewer.is_told("no numbers yet")
        assert viewer.app.screen is viewer.compare
