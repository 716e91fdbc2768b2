"""What is said about what was asked for: how long it stays, and what it may hide."""

from pathlib import Path

from rlhf_engine.runs import inbox
from tests.tui.fake_run import alive, fake_run
from tests.tui.monitor.conftest import viewing


async def test_a_refused_key_does_not_keep_what_is_staged_from_being_sent(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 3/500")
            await viewer.press("]", "a")
            await viewer.sees("no guard advises anything now", "0.0625: enter sends")
            await viewer.press("enter")
            assert [c.body for c in inbox.pending(fake.run.inbox)] == [
                {"knob": "kl_coef", "value": 0.0625}
            ]
            await viewer.press("k", "]", "z", "enter")
            assert len(inbox.pending(fake.run.inbox)) == 2


async def test_a_typed_value_that_is_none_sends_nothing_else_either(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 3/500")
            await viewer.press("k", "]", *"99", "enter")
            await viewer.sees("0 <= kl_coef <= 10")
            assert inbox.pending(fake.run.inbox) == []


async def test_a_key_that_was_refused_is_explained_until_the_next_key(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    with alive(fake.run):
        async with viewing(home, fake.run, (80, 24)) as viewer:
            await viewer.sees("step 3/500")
            await viewer.press("a")
            await viewer.sees("no guard advises anything now")
            await viewer.press("y")
            await viewer.sees("β 0.05 · KL")


async def test_an_applied_answer_stands_beside_the_figures_and_ages_out(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(30, kl=6.1)
    with alive(fake.run):
        async with viewing(home, fake.run, (80, 24)) as viewer:
            await viewer.sees("step 30/500")
            await viewer.press("]", "enter")
            await viewer.sees("waits for step 32")
            fake.answer()
            await viewer.sees("kl_coef 0.0625: applied at step 32 · KL ")
            fake.steps(3)
            await viewer.sees("step 35/500", "β 0.0625 · KL ")


async def test_a_worry_outranks_an_applied_answer(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(30)
    with alive(fake.run):
        async with viewing(home, fake.run, (80, 24)) as viewer:
            await viewer.sees("step 30/500")
            await viewer.press("]", "enter")
            await viewer.sees("waits for step 32")
            fake.answer()
            fake.steps(1, eos_rate=0.1)
            await viewer.sees("β 0.0625", "bad: EOS rate 0.1")


async def test_escape_clears_an_answer_before_it_leaves(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    with alive(fake.run):
        async with viewing(home, fake.run, (80, 24)) as viewer:
            await viewer.sees("step 3/500")
            await viewer.press("]", "enter")
            await viewer.sees("waits for step 5")
            fake.answer(refuse="not on a Sunday")
            fake.steps(8)
            await viewer.sees("step 13/500", "refused: not on a Sunday")
            await viewer.press("escape")
            await viewer.sees("β 0.05 · KL")
            assert viewer.app.screen is viewer.monitor
            await viewer.press("escape")
            assert len(viewer.app.screen_stack) == 1


async def test_what_others_sent_does_not_hide_the_answer_to_your_own(home: Path) -> None:
    fake = fake_run(home)
    fake.steps(3)
    with alive(fake.run):
        async with viewing(home, fake.run) as viewer:
            await viewer.sees("step 3/500")
            await viewer.press("]", "enter")
            await viewer.sees("kl_coef 0.0625: waits for step 5")
            fake.answer()
            for value in (2e-5, 3e-5, 4e-5, 5e-5):
                inbox.send(fake.run.inbox, "set", {"knob": "lr", "value": value}, "cli")
            await viewer.sees("kl_coef 0.0625: applied at step 5", "lr 5e-5 from cli: waits")


async def test_keys_do_no_harm_where_the_spec_cannot_be_read(home: Path) -> None:
    fake = fake_run(home)
    fake.run.spec_file.write_text("no spec")
    async with viewing(home, fake.run) as viewer:
        await viewer.press("]", "a", "enter", "p")
        assert viewer.app.screen is viewer.monitor
