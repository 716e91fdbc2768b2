"""The compare screen: what it shows of several runs, and every key of it."""

import math
import shutil
from pathlib import Path

from rlhf_engine.runs.directory import RunDir
from tests.tui.compare.conftest import comparing, made
from tests.tui.fake_run import HOSTILE, FakeRun, alive
from workbench.screens.home import HomeScreen
from workbench.screens.monitor import MonitorScreen
from workbench.screens.pick import PickScreen
from workbench.widgets.compare_charts import CompareCharts
from workbench.widgets.field_table import FieldTable
from workbench.widgets.lane_table import LaneTable
from workbench.widgets.overlay import Overlay

Two = tuple[FakeRun, FakeRun]


async def test_figures_and_the_fields_that_differ(home: Path, two: Two) -> None:
    soft, strict = two
    async with comparing(home, soft.run, strict.run) as viewer:
        await viewer.sees("━A running", "120/500", "━B running", "80/500", "2 running")
        await viewer.sees("differing fields · 1", "ppo.kl.coef", "0.05 → 0.2")
        last = viewer.compare._lanes[strict.run.id].tally.figures["score"]
        assert f"{last.best:.2f} @{last.best_step}" in viewer.text


async def test_living_runs_go_on(home: Path, two: Two) -> None:
    soft, strict = two
    async with comparing(home, soft.run, strict.run) as viewer:
        await viewer.sees("120/500")
        soft.steps(1, score=9.25)
        await viewer.sees("121/500", "9.25 @121")


async def test_space_hides_a_run_and_shows_it_again(home: Path, two: Two) -> None:
    async with comparing(home, *(one.run for one in two)) as viewer:
        await viewer.sees("━B running")
        await viewer.press("j", "space")
        await viewer.sees("strict (hidden)", "1 hidden")
        shown = viewer.app.screen.query_one("#panel-0", Overlay).picture.traces
        assert [trace.slot for trace in shown] == [0]
        await viewer.press("space")
        await viewer.sees("━B running")
        await viewer.press("k", "space")
        await viewer.sees("soft (hidden)")


async def test_x_goes_from_steps_to_time_to_kl(home: Path, two: Two) -> None:
    async with comparing(home, *(one.run for one in two)) as viewer:
        await viewer.sees("score · over step")
        await viewer.press("x")
        await viewer.sees("score · over time")
        await viewer.press("x")
        await viewer.sees("score · over KL")
        picture = viewer.app.screen.query_one("#panel-0", Overlay).picture
        kls = viewer.compare._lanes[two[1].run.id].book.get("kl").smooth.values
        assert list(picture.traces[1].xs) == kls
        await viewer.press("x")
        await viewer.sees("score · over step")


async def test_arrows_go_through_the_metrics(home: Path, two: Two) -> None:
    async with comparing(home, *(one.run for one in two)) as viewer:
        await viewer.sees("score · over step")
        await viewer.press("right")
        await viewer.sees("gold · over step")
        await viewer.press("right")
        await viewer.sees("kl · over step · log")
        await viewer.press("tab")
        assert isinstance(viewer.app.focused, FieldTable)
        await viewer.press("left", "left", "left")
        assert viewer.app.board.metric == "value_loss"


async def test_slash_chooses_a_metric_or_knob_by_name(home: Path, two: Two) -> None:
    async with comparing(home, *(one.run for one in two)) as viewer:
        await viewer.sees("score · over step")
        await viewer.press("slash")
        await viewer.sees("Metric or knob", "AB  score")
        await viewer.press(*"kl_c", "enter")
        await viewer.sees("kl_coef · over step", "B 0.20")
        knob = viewer.app.screen.query_one("#panel-0", Overlay).picture.traces[1].ys
        assert set(knob) == {0.05, 0.2}
        await viewer.press("slash")
        await viewer.sees("AB  score")
        await viewer.press("down", "down", "up", "enter")
        await viewer.sees("gold · over step")
        await viewer.press("slash", "escape")
        assert viewer.app.board.metric == "gold"


async def test_y_turns_the_scale_and_says_why_it_cannot(home: Path, two: Two) -> None:
    async with comparing(home, *(one.run for one in two)) as viewer:
        await viewer.sees("score · over step")
        await viewer.press("slash", *"entropy", "enter")
        await viewer.press("y")
        await viewer.sees("entropy · over step · log")
        await viewer.press("y")
        await viewer.until(lambda: "entropy · over step · EMA" in viewer.text)
        await viewer.press("slash", *"policy_loss", "enter", "y")
        await viewer.sees("linear: too much of it is not above 0")


async def test_m_goes_through_the_smoothings(home: Path, two: Two) -> None:
    soft, strict = two
    async with comparing(home, soft.run, strict.run) as viewer:
        await viewer.sees("EMA .9")
        await viewer.press("m")
        await viewer.sees("EMA .97")
        await viewer.press("m")
        await viewer.until(lambda: "EMA" not in viewer.text)
        picture = viewer.app.screen.query_one("#panel-0", Overlay).picture
        assert (
            list(picture.traces[0].ys) == viewer.compare._lanes[soft.run.id].book.get("score").raw
        )


async def test_o_gives_each_run_a_chart_with_the_same_axes(home: Path, two: Two) -> None:
    async with comparing(home, *(one.run for one in two)) as viewer:
        await viewer.sees("score · over step")
        await viewer.press("o")
        await viewer.sees("A soft", "B strict")
        panels = [viewer.app.screen.query_one(f"#panel-{i}", Overlay) for i in range(4)]
        assert [panel.display for panel in panels] == [True, True, False, False]
        assert [[t.slot for t in panel.picture.traces] for panel in panels[:2]] == [[0], [1]]
        assert panels[0].picture.ends == panels[1].picture.ends is not None
        assert panels[0].picture.high == panels[1].picture.high == 120
        await viewer.press("o")
        await viewer.until(lambda: not panels[1].display)


async def test_frontier_is_score_and_gold_over_the_root_of_kl(home: Path, two: Two) -> None:
    soft, _ = two
    async with comparing(home, soft.run) as viewer:
        await viewer.sees("score ━ · gold abcd · over √KL")
        score, gold = viewer.app.screen.query_one("#frontier", Overlay).picture.traces
        book = viewer.compare._lanes[soft.run.id].book
        assert list(score.xs) == [math.sqrt(kl) for kl in book.get("kl").smooth.values]
        assert list(gold.ys) == book.get("gold").smooth.values
        assert (score.points, gold.points) == (False, True)


async def test_f_leaves_the_frontier_out_and_in_a_narrow_terminal_shows_it_alone(
    home: Path, two: Two
) -> None:
    async with comparing(home, two[0].run) as viewer:
        await viewer.sees("over √KL")
        await viewer.press("f")
        await viewer.until(lambda: "over √KL" not in viewer.text)
        await viewer.pilot.resize_terminal(80, 24)
        await viewer.press("f")
        await viewer.sees("over √KL")
        await viewer.until(lambda: "over step" not in viewer.text)


async def test_d_gives_the_fields_the_whole_screen(home: Path, two: Two) -> None:
    async with comparing(home, *(one.run for one in two), size=(80, 24)) as viewer:
        await viewer.sees("━B running")
        assert "differing fields" not in viewer.text
        await viewer.press("d")
        await viewer.sees("differing fields · 1", "0.05 → 0.2")
        assert not viewer.app.screen.query_one(CompareCharts).display
        await viewer.press("j", "k", "escape")
        await viewer.sees("over step")
        assert isinstance(viewer.app.focused, LaneTable)


async def test_runs_are_added_and_taken_out_and_keep_their_slots(home: Path, two: Two) -> None:
    strict = two[1]
    made(home, "100002", "third").steps(5)
    async with comparing(home) as viewer:
        await viewer.sees("Add a run to compare", "third", "strict", "soft")
        await viewer.press(*"soft", "enter")
        await viewer.sees("━A running")
        await viewer.press("a")
        await viewer.sees("Add a run to compare", "strict")
        assert "soft" not in [choice.text.split()[0] for choice in viewer.app.screen._choices]
        await viewer.press(*"stri", "enter")
        await viewer.sees("━B running")
        await viewer.press("backspace")
        await viewer.sees("1 run ")
        assert viewer.app.board.slots == [None, strict.run, None, None]
        await viewer.press("a")
        await viewer.sees("third")
        await viewer.press(*"nothing like it")
        await viewer.sees("nothing fits what you typed")
        await viewer.press("escape")
        assert viewer.app.board.slots == [None, strict.run, None, None]


async def test_a_fifth_run_is_refused(home: Path) -> None:
    runs = [made(home, f"10000{i}", f"run-{i}") for i in range(4)]
    async with comparing(home, *(one.run for one in runs)) as viewer:
        await viewer.sees("━D")
        await viewer.press("a")
        assert not isinstance(viewer.app.screen, PickScreen)
        assert "four runs are compared at most" in viewer.told


async def test_enter_opens_the_monitor_and_5_comes_back_to_the_same(home: Path, two: Two) -> None:
    async with comparing(home, *(one.run for one in two)) as viewer:
        await viewer.sees("━B running")
        await viewer.press("x", "down", "enter")
        assert isinstance(viewer.app.screen, MonitorScreen)
        assert viewer.app.screen.run == two[1].run
        await viewer.press("5")
        await viewer.sees("━A running", "━B running", "over time")
        await viewer.press("up", "escape")
        assert isinstance(viewer.app.screen, HomeScreen)
        await viewer.press("5", "q")
        assert isinstance(viewer.app.screen, HomeScreen)


async def test_a_deleted_run_keeps_its_line_and_says_so(home: Path, two: Two) -> None:
    soft, strict = two
    async with comparing(home, soft.run, strict.run) as viewer:
        await viewer.sees("━B running")
        await viewer.press("j")
        shutil.rmtree(strict.run.path)
        await viewer.sees("━B deleted", "backspace takes it out")
        assert len(viewer.app.screen.query_one("#panel-0", Overlay).picture.traces) == 2
        await viewer.press("enter")
        assert "strict was deleted: backspace" in viewer.told
        assert viewer.app.screen is viewer.compare
        await viewer.press("backspace")
        await viewer.until(lambda: "deleted;" not in viewer.text)


async def test_a_rollback_starts_the_figures_anew(home: Path) -> None:
    run = made(home, "100000", "back")
    run.steps(30, score=5.0)
    async with comparing(home, run.run) as viewer:
        await viewer.sees("5.00 @1", "30/500")
        run.store.end_session("stopped")
        run.store.start_session(10)
        run.step = 10
        run.steps(2, score=1.0)
        with alive(run.run):
            await viewer.sees("━A running", "12/500", "5.00 @1")
        series = viewer.compare._lanes[run.run.id].book.get("score")
        assert series.steps == [float(step) for step in range(1, 13)]


async def test_hostile_text_and_figures_are_only_shown(home: Path) -> None:
    run, other = made(home, "100000", "x"), made(home, "100001", "y", seed=2)
    for one in (run, other):
        one.steps(10)
        one.steps(3, score=float("nan"), kl=float("inf"), gold=-1e300)
        one.steps(3, score=float("-inf"), kl=-5.0)
    run.store.end_session("failed", HOSTILE)
    name = "20260301-100000-[b][red]\x1b]2;owned\u202e"
    evil = RunDir(run.run.path.rename(run.run.path.with_name(name)))
    async with comparing(home, evil, other.run) as viewer:
        await viewer.sees("[b][red]␛]2;ow")
        for keys in (["x"], ["x"], ["right"], ["y"], ["o"], ["m"], ["d"], ["d"], ["slash"]):
            await viewer.press(*keys)
            assert "\x1b" not in viewer.text
            assert "\u202e" not in viewer.text
