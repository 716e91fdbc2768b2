"""Turning knobs from the keyboard: staged, sent, waiting, applied or refused."""

from pathlib import Path

from rlhf_engine.runs import inbox
from tests.tui.fake_run import alive, fake_run
from tests.tui.monitor.conftest import viewing
from workbench.widgets.chart import Chart


async def test_a_staged_coefficient_is_sent_waits_and_is_applied_at_a_step(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(30)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("● running", "step 30/500")
            await viewer.press("]")
            await viewer.sees("→ 0.0625 staged", "0.05 → 0.0625: enter sends")
            assert inbox.pending(fake.run.inbox) == []
            await viewer.press("enter")
            (command,) = inbox.pending(fake.run.inbox)
            assert command.body == {"knob": "kl_coef", "value": 0.0625}
            await viewer.sees("kl_coef 0.0625: waits for step 32", "→ 0.0625 waiting")
            fake.answer()
            await viewer.sees("applied at step 32", "kl_coef 0.05 → 0.0625 at step 32 by tui")
            markers = viewer.monitor.query_one("#chart-0", Chart).picture.markers
            assert ("β0.0625", 32) in [(marker.text, marker.x) for marker in markers]


async def test_a_refusal_shows_its_reason(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 3/500")
            await viewer.press("[", "enter")
            await viewer.sees("waits for step 5")
            fake.answer(refuse="not on a Sunday")
            await viewer.sees("refused: not on a Sunday")


async def test_a_typed_value_is_sent_for_the_chosen_knob(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 3/500")
            await viewer.press("k", "j", "down", "k", "j", "up", *"12.5")
            await viewer.sees("▸ kl_target", "12.5█")
            await viewer.press("backspace", "enter")
            assert [c.body for c in inbox.pending(fake.run.inbox)] == [
                {"knob": "kl_target", "value": 12.0}
            ]


async def test_a_value_out_of_bounds_is_never_sent(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 3/500")
            await viewer.press("k", *"99", "enter")
            await viewer.sees("0 <= kl_coef <= 10")
            assert inbox.pending(fake.run.inbox) == []


async def test_escape_drops_what_is_staged_and_only_then_goes_back(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 3/500")
            await viewer.press("}", "escape")
            assert "staged" not in viewer.text
            await viewer.press("enter", "escape")
            assert inbox.pending(fake.run.inbox) == []
            assert viewer.app.screen is viewer.monitor
            await viewer.press("escape")
            assert len(viewer.app.screen_stack) == 1


async def test_z_stages_the_value_before_the_last_change(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    fake.turn("kl_coef", 0.4)
    fake.steps(3)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 6/500")
            await viewer.press("z", "enter")
            assert [c.body["value"] for c in inbox.pending(fake.run.inbox)] == [0.05]


async def test_commands_of_others_are_shown_while_they_wait(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    inbox.send(fake.run.inbox, "set", {"knob": "lr", "value": 2e-5}, "cli")
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("lr 2e-5 from cli: waits for step 5")


async def test_pause_checkpoint_and_stop_become_commands_and_stop_asks_first(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 3/500")
            await viewer.press("p", "c", "X")
            await viewer.sees("Stop ")
            await viewer.press("n", "X", "y")
            kinds = [command.kind for command in inbox.pending(fake.run.inbox)]
            assert kinds == ["pause", "checkpoint", "stop"]
            fake.answer()
            fake.store.progress("paused", "paused")
            await viewer.sees("‖ paused", "p goes on")
            await viewer.press("p")
            assert [c.kind for c in inbox.pending(fake.run.inbox)] == ["resume"]


async def test_a_finished_run_takes_nothing(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    fake.store.end_session("done")
    async with viewing(home, fake.run) as viewer:
        await viewer.sees("✓ done")
        await viewer.press("]", "enter")
        await viewer.sees("not sent: the run is done")
        assert inbox.pending(fake.run.inbox) == []


async def test_a_learning_rate_is_what_the_keys_stage_where_there_is_no_kl(home: Path) -> None:
    fake = fake_run(home, "sft")
    fake.steps(3)
    with alive(fake.run):
        async with viewing(home, fake.run, (80, 24)) as viewer:
            await viewer.sees("step 3/500")
            await viewer.press("{")
            await viewer.sees("staged lr 2e-4 → 1e-4")
