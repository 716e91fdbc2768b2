"""The list of runs: what it shows and what its keys do."""

from pathlib import Path

import pytest

from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import all_runs
from rlhf_engine.runs.writer import StoreWriter
from tests.cli.fakes import PPO, FakeEngine, finished_run, make_run
from tests.tui.app.conftest import LaunchScreen, MonitorScreen, Told, at, ended
from tests.tui.screen_text import screen_text
from tests.tui.viewer import settle
from workbench.app import WorkbenchApp
from workbench.screens.confirm import ConfirmScreen
from workbench.screens.home_table import RunsTable


def lines_of(app: WorkbenchApp, word: str) -> list[str]:
    return [line for line in screen_text(app).splitlines() if word in line]


def names(app: WorkbenchApp) -> list[str]:
    return [row.name for row in app.screen.query_one(RunsTable)._rows]


async def test_newest_first_and_a_pipeline_in_its_order(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert names(app) == ["killed", "held", "no-memory", "demo-sft", "demo-ppo", "old-run"]
        assert "┌ demo-sft" in screen_text(app)
        assert "└ demo-ppo" in screen_text(app)


async def test_enter_opens_the_monitor_and_3_returns_to_it(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("3")
        assert not isinstance(app.screen, MonitorScreen)
        await pilot.press("j", "enter")
        assert isinstance(app.screen, MonitorScreen)
        assert app.screen.opened[0].id == "20260301-115000-held"
        await pilot.press("1", "3")
        assert isinstance(app.screen, MonitorScreen)


async def test_lost_run_says_where_and_r_resumes_it(
    several: Path, started: list[str], told: Told
) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert lines_of(app, "lost at step 3")
        assert lines_of(app, "r starts it again")
        await pilot.press("r")
        await settle(pilot)
        assert started == ["20260301-115930-killed"]
        assert "starts again from its first step" in told(app)[-1]


async def test_a_run_with_a_checkpoint_goes_on_from_it(
    several: Path, started: list[str], told: Told
) -> None:
    run = several / "runs" / "20260301-115930-killed"
    store = StoreWriter(run / "run.db")
    store.checkpoint(2, str(run / "checkpoints" / "step-2"), 10)
    store.close()
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert lines_of(app, "r goes on from its last checkpoint")
        await pilot.press("r")
        await settle(pilot)
        assert "goes on from its last checkpoint" in told(app)[-1]


async def test_done_run_is_not_resumed(home: Path, started: list[str], told: Told) -> None:
    ended(home, "20260301-110000", "fine")
    app = WorkbenchApp(home)
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("r")
        await settle(pilot)
        assert started == []
        assert "nothing to resume" in told(app)[-1]


async def test_engine_that_cannot_start_is_told(
    several: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied", "engine.log")

    monkeypatch.setattr("rlhf_engine.runs.launch.start_engine", refuse)
    app = WorkbenchApp(several)
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("r")
        await settle(pilot)
        assert "Permission denied" in told(app)[-1]


async def test_paused_run_gets_the_command_to_resume(home: Path, started: list[str]) -> None:
    run = at(make_run(home, name="resting"), "20260301-110000")
    with FakeEngine(run, status="paused", answers=None):
        app = WorkbenchApp(home)
        async with app.run_test() as pilot:
            await settle(pilot)
            await pilot.press("r")
            assert [command.kind for command in inbox.pending(run.inbox)] == ["resume"]
            assert started == []


@pytest.mark.parametrize(("answer", "sent"), [("y", ["stop"]), ("n", []), ("escape", [])])
async def test_stop_asks_first(home: Path, answer: str, sent: list[str]) -> None:
    run = at(make_run(home, name="busy"), "20260301-110000")
    with FakeEngine(run, answers=None):
        app = WorkbenchApp(home)
        async with app.run_test() as pilot:
            await settle(pilot)
            await pilot.press("x")
            assert isinstance(app.screen, ConfirmScreen)
            assert inbox.pending(run.inbox) == []
            await pilot.press(answer)
            assert [command.kind for command in inbox.pending(run.inbox)] == sent


async def test_stop_of_an_ended_run_sends_nothing(several: Path, told: Told) -> None:
    app = WorkbenchApp(several)
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("x")
        assert "is lost already" in told(app)[-1]
        assert not isinstance(app.screen, ConfirmScreen)


async def test_delete_wants_the_name_typed(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("D", *"kill", "enter")
        assert isinstance(app.screen, ConfirmScreen)
        assert "that is not killed" in screen_text(app)
        await pilot.press(*"ed", "enter")
        await settle(pilot)
        assert next(run.id[16:] for run in all_runs(several)) == "held"
        assert names(app)[0] == "held"


async def test_delete_names_the_runs_that_read_from_it(home: Path) -> None:
    parent = ended(home, "20260301-110000", "parent")
    at(make_run(home, name="child", policy=f"run:{parent.id}"), "20260301-105900")
    app = WorkbenchApp(home)
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("D")
        assert "Read by: child." in screen_text(app)


async def test_running_run_is_not_deleted(home: Path, told: Told) -> None:
    run = at(make_run(home, name="busy"), "20260301-110000")
    with FakeEngine(run):
        app = WorkbenchApp(home)
        async with app.run_test() as pilot:
            await settle(pilot)
            await pilot.press("D")
            assert "stop it first" in told(app)[-1]
            assert not isinstance(app.screen, ConfirmScreen)
    assert run.path.is_dir()


async def test_duplicate_opens_the_form_with_the_spec(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("d")
        assert isinstance(app.screen, LaunchScreen)
        _, preset, spec = app.screen.opened
        assert preset is None
        assert spec.name == "killed"


async def test_filter_narrows_while_typed_and_escape_shows_all(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("slash", *"kind:ppo -state:lost kl>2")
        assert names(app) == ["held", "no-memory", "demo-ppo", "old-run"]
        assert "4 of 6 runs" in screen_text(app)
        await pilot.press("enter", "j")
        assert app.focused is app.screen.query_one(RunsTable)
        await pilot.press("escape")
        assert len(names(app)) == 6


async def test_filter_that_cannot_be_says_what_can(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("slash", *"speed>3")
        assert "speed is no figure of the list; known: kl, score, step" in screen_text(app)
        await pilot.press("escape", "slash", *"zebra")
        assert "no run fits this filter" in screen_text(app)


async def test_cursor_stays_on_its_run_when_a_newer_one_appears(several: Path) -> None:
    app = WorkbenchApp(several)
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.press("j", "j")
        ended(several, "20260301-115959", "newest")
        app.screen.look_again()  # type: ignore[attr-defined]
        await settle(pilot)
        table = app.screen.query_one(RunsTable)
        assert names(app)[0] == "newest"
        assert table.current is not None
        assert table.current.name == "no-memory"


async def test_running_run_is_followed(home: Path) -> None:
    run = at(make_run(home, name="busy"), "20260301-110000")
    with FakeEngine(run, steps=1_000_000):
        app = WorkbenchApp(home)
        async with app.run_test(size=(120, 40)) as pilot:
            await settle(pilot)
            table = app.screen.query_one(RunsTable)
            assert table.current is not None
            first = table.current.state.step
            while table.current.state.step == first:
                await pilot.pause(0.1)
            assert "1 running" in screen_text(app)
            assert "generate 3/32 responses" in screen_text(app)


async def test_hostile_names_and_errors_are_only_text(home: Path) -> None:
    run = ended(home, "20260301-110000", "x", "failed", "[/b] \x1b]2;owned\x07 [red]boom")
    run.path.rename(run.path.with_name("20260301-110000-[b][red]\x1b]2;owned"))
    app = WorkbenchApp(home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        shown = screen_text(app)
        assert "[b][red]␛]2;owned" in shown
        assert "[/b] ␛]2;owned␇ [red]boom" in shown
        assert "\x1b" not in shown
        await pilot.press("x", "r", "D")
        assert "\x1b" not in screen_text(app)


async def test_damaged_store_is_a_word_in_the_list(home: Path) -> None:
    run = ended(home, "20260301-110000", "broken")
    run.store.write_bytes(b"SQLite format 3\x00" + b"\xff" * 4096)
    ended(home, "20260301-100000", "whole")
    app = WorkbenchApp(home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert lines_of(app, "unreadable")
        assert lines_of(app, "whole")
        assert lines_of(app, "put a copy of its folder back, or D deletes it")


async def test_empty_home_offers_presets_and_warns(home: Path) -> None:
    app = WorkbenchApp(home)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert lines_of(app, "demo")
        assert lines_of(app, "smoke")
        assert lines_of(app, "no NVIDIA GPU can be used")
        assert not lines_of(app, "Python")
        await pilot.press("j", "enter")
        assert isinstance(app.screen, LaunchScreen)
        assert app.screen.opened[1] == "smoke"


async def test_first_run_replaces_the_presets(home: Path) -> None:
    app = WorkbenchApp(home)
    async with app.run_test() as pilot:
        await settle(pilot)
        ended(home, "20260301-110000", "first")
        app.screen.look_again()  # type: ignore[attr-defined]
        await settle(pilot)
        assert lines_of(app, "first")
        assert app.focused is app.screen.query_one(RunsTable)


@pytest.mark.parametrize(("width", "told"), [(70, " · ppo · cuda:1"), (80, " · cuda:1"), (120, "")])
async def test_what_has_no_column_stands_below_the_list(home: Path, width: int, told: str) -> None:
    text = f'device = "cuda:1"\n{PPO}'
    run = at(finished_run(home, text=text, name="one"), "20260301-110000")
    app = WorkbenchApp(home)
    async with app.run_test(size=(width, 24)) as pilot:
        await settle(pilot)
        (line,) = lines_of(app, run.id)
        assert line.strip().endswith(f"{run.id}{told}")
