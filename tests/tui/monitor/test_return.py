"""Going back to a step, forking from one, resuming and evaluating, from the keyboard."""

import json
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from textual.widgets import Input

from rlhf_engine.runs import checkpoints, inbox
from rlhf_engine.runs.directory import RunDir, all_runs
from tests.tui.fake_run import HOSTILE, FakeRun, alive, fake_run
from tests.tui.monitor.conftest import MonitorViewer, viewing
from workbench.screens.fork import ForkScreen


def save(fake: FakeRun) -> None:
    """Leave a sound checkpoint of the newest step, as an engine does."""
    folder = checkpoints.folder_of(fake.run.checkpoints, fake.step)
    folder.mkdir(parents=True)
    (folder / checkpoints.VALUES).write_text(json.dumps({"knobs": fake.knobs}))
    fake.store.checkpoint(fake.step, str(folder), checkpoints.seal(folder, fake.step))


def saved_thrice(home: Path, stage: str = "ppo") -> FakeRun:
    """A run of 30 steps with checkpoints of 10, 20 and 30."""
    fake = fake_run(home, stage)
    for _ in range(3):
        fake.steps(10)
        save(fake)
    return fake


def sent(fake: FakeRun) -> list[tuple[str, dict[str, object]]]:
    return [(command.kind, command.body) for command in inbox.pending(fake.run.inbox)]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the runs whose engines were started, in place of starting them."""
    runs: list[str] = []

    def start(run: RunDir) -> None:
        runs.append(run.id)

    monkeypatch.setattr("workbench.screens.commanding.start_engine", start)
    monkeypatch.setattr("rlhf_engine.runs.lineage.start_engine", start)
    return runs


async def opened(viewer: MonitorViewer, fake: FakeRun) -> None:
    await viewer.sees(f"step {fake.step}/500")
    await viewer.until(lambda: viewer.monitor.snapshot.steps)


async def test_rollback_to_a_chosen_checkpoint_is_asked_and_sent(home: Path) -> None:
    fake = saved_thrice(home)
    fake.steps(5)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await opened(viewer, fake)
            await viewer.press("b")
            await viewer.sees("step     30", "step     20", "step     10", "the start", "score")
            await viewer.press("down", "j", "k", "enter")
            await viewer.sees("Roll back to step 20?", "15 steps after it become history")
            await viewer.press("n", "b", "escape", "b", "q")
            assert sent(fake) == []
            await viewer.press("b", "down", "enter", "y")
            assert sent(fake) == [("rollback", {"step": 20})]
            await viewer.sees("rollback to step 20: sent")


async def test_rollback_starts_from_the_checkpoint_nearest_to_the_crosshair(home: Path) -> None:
    fake = saved_thrice(home)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await opened(viewer, fake)
            await viewer.press("home", *["shift+right"] * 8, "b")
            await viewer.sees("the crosshair is at step 9")
            await viewer.press("enter")
            await viewer.sees("Roll back to step 10?")


async def test_a_run_that_was_lost_is_started_again_to_roll_back(
    home: Path, started: list[str]
) -> None:
    fake = saved_thrice(home)
    fake.store.end_session("failed", "CUDA out of memory")
    async with viewing(home, fake.run) as viewer:
        await viewer.sees("failed at step 30/500: CUDA out of memory")
        await viewer.press("b", "enter")
        await viewer.sees("engine is started again")
        await viewer.press("y")
        await viewer.until(lambda: started == [fake.run.id])
        assert sent(fake) == [("rollback", {"step": 30})]


async def test_a_done_run_says_to_fork_instead_of_rolling_back(home: Path) -> None:
    fake = saved_thrice(home)
    fake.store.end_session("done")
    async with viewing(home, fake.run) as viewer:
        await viewer.sees("✓ done")
        await viewer.press("b")
        await viewer.sees("is done and stays as it", "F goes on from a step")
        assert viewer.app.screen is viewer.monitor


async def test_without_a_checkpoint_there_is_nothing_to_go_back_to(home: Path) -> None:
    fake = fake_run(home)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("no data yet")
            await viewer.press("b")
            await viewer.sees("no step to go back to yet; c saves")
            await viewer.press("F")
            await viewer.sees("no checkpoint to fork from; c saves")


async def test_a_stage_that_trains_nothing_goes_back_to_any_step(home: Path) -> None:
    fake = fake_run(home, "collect")
    fake.steps(7)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await opened(viewer, fake)
            await viewer.press("b", *["down"] * 3, "enter", "y")
            assert sent(fake) == [("rollback", {"step": 4})]


async def test_a_fork_has_its_name_and_knobs_and_is_opened(home: Path, started: list[str]) -> None:
    fake = saved_thrice(home)
    fake.store.end_session("stopped")
    async with viewing(home, fake.run) as viewer:
        await viewer.sees("stopped at step 30/500")
        await viewer.press("F")
        await viewer.sees("Fork ", "step     30", "0.05 as saved")
        await viewer.press("down", "enter", *"stricter")
        viewer.app.screen.query_one("#knob-kl_coef", Input).focus()
        await viewer.sees("0 <= kl_coef <= 10 · reward per nat", "Price of one nat")
        await viewer.press(*"0.2")
        viewer.app.screen.query_one("#more", Input).focus()
        await viewer.press(*"ppo.steps=77", "ctrl+g")
        await viewer.until(lambda: viewer.monitor.run != fake.run)
        fork = viewer.monitor.run
        assert fork.id.endswith("-stricter")
        spec = fork.spec()
        assert spec.fork is not None
        assert (spec.fork.run, spec.fork.step) == (fake.run.id, 20)
        assert spec.stage == "ppo"
        assert (spec.ppo.kl.coef, spec.ppo.steps) == (0.2, 77)
        assert started == [fork.id]


@pytest.mark.parametrize(
    ("field", "typed", "told"),
    [
        ("knob-kl_coef", "99", "0 <= kl_coef <= 10"),
        ("knob-lr", "much", "lr = 'much'"),
        ("more", "horse=1", "unknown key"),
        ("more", "lora.r=4", "a fork keeps"),
        ("more", '"', "No closing quotation"),
        ("name", "../x", "name"),
    ],
)
async def test_a_fork_that_cannot_be_says_why_and_stays(
    home: Path, started: list[str], field: str, typed: str, told: str
) -> None:
    fake = saved_thrice(home)
    fake.store.end_session("done")
    async with viewing(home, fake.run) as viewer:
        await viewer.sees("✓ done")
        await viewer.press("F")
        await viewer.sees("Fork ")
        viewer.app.screen.query_one(f"#{field}", Input).value = typed
        viewer.app.screen.query_one(f"#{field}", Input).focus()
        await viewer.press("enter")
        await viewer.sees(told, "esc cancels")
        assert isinstance(viewer.app.screen, ForkScreen)
        await viewer.press("escape")
        assert viewer.app.screen is viewer.monitor
        assert [run.id for run in all_runs(home)] == [fake.run.id]
        assert started == []


async def test_a_damaged_checkpoint_is_named(home: Path, started: list[str]) -> None:
    fake = saved_thrice(home)
    (checkpoints.folder_of(fake.run.checkpoints, 30) / checkpoints.VALUES).write_text("{}")
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await opened(viewer, fake)
            await viewer.press("F", "ctrl+g")
            await viewer.sees("damaged", "other steps: 10, 20")
            assert started == []


@pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("key", ["b", "F"])
async def test_the_dialogs_look_right(
    home: Path,
    size: tuple[int, int],
    key: str,
    snapshot: SnapshotAssertion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workbench.widgets.return_points.clock", lambda _: "12:00:00")
    fake = saved_thrice(home)
    with alive(fake.run):
        async with viewing(home, fake.run, size) as viewer:
            await opened(viewer, fake)
            await viewer.press(key)
            await viewer.sees("step     30", "step     10")

            def look() -> str:
                return viewer.text.replace(fake.run.id[:15], "20260101-000000")

            assert await viewer.picture(snapshot, look) == snapshot


async def test_e_evaluates_now_and_the_answer_is_shown(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await opened(viewer, fake)
            await viewer.press("e")
            assert sent(fake) == [("evaluate", {})]
            await viewer.sees("evaluate: sent, not taken up yet")
            fake.answer(refuse="there are no held-out rows")
            await viewer.sees("evaluate: refused: there are no")


async def test_r_resumes_what_ended_and_what_is_paused_and_nothing_else(
    home: Path, started: list[str]
) -> None:
    fake = saved_thrice(home)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await opened(viewer, fake)
            await viewer.press("r")
            await viewer.sees("the run is running: there is")
            fake.store.progress("paused", "paused")
            await viewer.sees("‖ paused")
            await viewer.press("r")
            assert sent(fake) == [("resume", {})]
    fake.store.end_session("failed", f"a horse {HOSTILE}")
    async with viewing(home, fake.run) as viewer:
        await viewer.sees("failed at step 30/500: a horse", "r resumes it from the checkpoint of")
        assert "\x1b" not in viewer.text
        await viewer.press("r")
        await viewer.until(lambda: started == [fake.run.id])
        await viewer.until(lambda: any("goes on" in n.message for n in viewer.app._notifications))
    fake.store.end_session("done")
    async with viewing(home, fake.run) as viewer:
        await viewer.sees("✓ done")
        await viewer.press("r")
        await viewer.sees("there is nothing to resume", "F forks it")
        await viewer.press("X", "p", "c", "e")
        assert viewer.app.screen is viewer.monitor
        await viewer.sees("not sent: the run is done")
    assert started == [fake.run.id]


async def test_several_knobs_staged_together_get_an_answer_each(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await opened(viewer, fake)
            await viewer.press("]", "k", "j", *"9", "enter")
            assert [body for _, body in sent(fake)] == [
                {"knob": "kl_coef", "value": 0.0625},
                {"knob": "kl_target", "value": 9.0},
            ]
            fake.answer()
            await viewer.sees("kl_coef 0.0625: applied at step 5", "kl_target 9: applied at step 5")
            await viewer.sees("0 < kl_target <= 10000 · nats per response", "Where the adaptive")
