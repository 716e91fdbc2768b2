"""Every key of the samples screen, and what it does while a run goes on."""

import math
from pathlib import Path

import pytest
from rich.style import Style

from rlhf_engine.runs import inbox
from tests.tui.fake_run import FakeRun, alive, fake_run
from tests.tui.samples.conftest import Reader, reading, sample, trained
from workbench.app import WorkbenchApp
from workbench.screens.monitor import MonitorScreen
from workbench.screens.samples import SamplesScreen
from workbench.token_colours import BLUE, PALETTE, RED, Figure, scale_of
from workbench.widgets.text_page import TextPage
from workbench.widgets.token_text import TokenText


def sought(reader: Reader) -> tuple[int, str]:
    """Step and response of the sample under the cursor, once its tokens are read."""
    row = reader.screen.view.sample
    assert row is not None
    return row.step, row.sample.response


async def at(reader: Reader, step: int, words: str = "") -> None:
    await reader.until(lambda: sought(reader)[0] == step and words in sought(reader)[1])


@pytest.fixture
def run(home: Path) -> FakeRun:
    fake = fake_run(home)
    trained(fake, 30)
    return fake


async def test_the_list_is_walked_by_one_by_ten_and_back_to_its_head(
    home: Path, run: FakeRun
) -> None:
    async with reading(home, run.run) as reader:
        await at(reader, 30, "Light")
        await reader.press("down")
        await at(reader, 30, "At step")
        await reader.press("j", "k", "up")
        await at(reader, 30, "Light")
        await reader.press("pagedown")
        await reader.sees("11/60")
        await at(reader, 25)
        await reader.press("pagedown", "pageup", "full_stop")
        await reader.sees("1/60")
        await reader.press("up", "up")
        await reader.sees("1/60")


async def test_new_samples_arrive_without_moving_the_cursor(home: Path, run: FakeRun) -> None:
    with alive(run.run):
        async with reading(home, run.run) as reader:
            await reader.sees("1/60")
            await reader.press("right", "right")
            trained(run, 3)
            await reader.sees("7/66", "step 33/500", "token 3/5")
            assert sought(reader)[0] == 30
            await reader.press("full_stop")
            await at(reader, 33)


async def test_orders_and_their_reverse(home: Path, run: FakeRun) -> None:
    async with reading(home, run.run) as reader:
        await reader.sees("newest first")
        lines = reader.screen.view.lines
        best = max(lines, key=lambda line: line.score or 0.0)
        longest = max(line.length for line in lines)
        await reader.press("o")
        await reader.sees("highest score first")
        await reader.until(lambda: reader.screen.view.sample.seq == best.seq)  # type: ignore[union-attr]
        await reader.press("o")
        await reader.sees("highest KL first", "15.0")
        await at(reader, 30, "At step 30")
        await reader.press("O")
        await reader.sees("lowest KL first")
        await reader.press("o")
        await reader.sees("highest net reward first", "net  len")
        await reader.press("o")
        await reader.sees("longest first")
        await reader.until(lambda: reader.screen.view.lines[0].length == longest)
        await reader.press("o", "O")
        await reader.sees("oldest first")
        await at(reader, 1)


async def test_search_finds_prompts_and_responses_and_escape_shows_all(
    home: Path, run: FakeRun
) -> None:
    async with reading(home, run.run) as reader:
        await reader.sees("1/60")
        await reader.press("slash", *"AT STEP 17", "enter")
        await reader.sees("with “AT STEP 17”", "1/1")
        await at(reader, 17, "At step 17")
        await reader.press("slash")
        for _ in range(10):
            await reader.press("backspace")
        await reader.press(*"prompt 9:", "enter")
        await at(reader, 9)
        await reader.press("slash", *"xyz", "escape")
        await reader.sees("with “prompt 9:”")
        await reader.press("slash", *" nowhere", "enter")
        await reader.sees("No sample fits", "esc shows all")
        await reader.press("right", "n", "enter", "space", "v", "p", "down")
        await reader.press("escape")
        await reader.sees("/60")


async def test_kinds_are_chosen_in_turn(home: Path, run: FakeRun) -> None:
    run.store.samples(30, [sample("held", "out", kind="eval", pieces=(), tokens=())])
    run.store.samples(30, [sample("mine", "yours", kind="asked")])
    async with reading(home, run.run) as reader:
        for kind, words in (("train", "1/60"), ("eval", "1/1"), ("draft", "No sample fits")):
            await reader.press("f")
            await reader.sees(f"{kind} only", words) if words[0] == "1" else await reader.sees(
                words
            )
            if kind == "eval":
                await reader.sees("no figures of single tokens are recorded for eval samples")
                await reader.press("right", "n", "v")
                await reader.sees("out")
        await reader.press("f")
        await reader.sees("asked only", "yours")
        await reader.press("f")
        await reader.sees("newest first · 1/62")


async def test_the_cursor_reads_every_figure_of_a_token(home: Path, run: FakeRun) -> None:
    async with reading(home, run.run) as reader:
        await reader.sees("token 1/5", "“Light”", "id 1000")
        await reader.press("right", "l", "right", "left")
        await reader.sees("token 3/5", "“·blue”", "id 1002", "logp -0.50", "reference -3.50")
        k3 = math.exp(-3) - 1 + 3
        await reader.sees("log-ratio +3.00", f"KL k3 {k3:.2f}", "sum so far +3.10")
        await reader.sees("advantage -0.42", "value +0.50", "reward -0.15")
        await reader.press("h", "h", "h", "h")
        await reader.sees("token 1/5")


async def test_extreme_tokens_are_found_forwards_and_backwards(home: Path, run: FakeRun) -> None:
    async with reading(home, run.run) as reader:
        await reader.press("down")
        await reader.sees("token 1/10")
        for key, token in (("n", 3), ("n", 6), ("n", 3), ("N", 6), ("N", 3)):
            await reader.press(key)
            await reader.sees(f"token {token}/10")


async def test_colours_go_round_the_recorded_figures(home: Path, run: FakeRun) -> None:
    async with reading(home, run.run) as reader:
        await reader.sees("log-ratio to the reference")
        text = reader.screen.query_one(TokenText)
        strong = [s.style for s in text.render_line(0) if s.style and s.style.underline]
        assert strong, "the third token is extreme"
        assert all(style.bold and not style.italic for style in strong)
        for words in (
            *("advantage · blue", "value of the state", "reward: -kl_coef·KL"),
            *("no colours", "log-ratio to"),
        ):
            await reader.press("v")
            await reader.sees(words)
            if words == "no colours":
                assert not any(s.style and s.style.underline for s in text.render_line(0))
                await reader.press("n")


async def test_a_sample_without_values_skips_them(home: Path) -> None:
    fake = fake_run(home, "dpo")
    fake.steps(1)
    fake.store.samples(1, [sample(value=(), advantage=())])
    async with reading(home, fake.run) as reader:
        await reader.sees("log-ratio to the reference", "advantage – · value – · reward –")
        await reader.press("v")
        await reader.sees("no colours")
        await reader.press("v")
        await reader.sees("log-ratio to the reference")


async def test_blanks_become_signs(home: Path, run: FakeRun) -> None:
    async with reading(home, run.run) as reader:
        await reader.sees("Light scatters; blue scatters most.")
        await reader.press("t")
        await reader.sees("Light·scatters;·blue·scatters·most.")
        await reader.press("t")
        await reader.sees("Light scatters; blue scatters most.")


async def test_one_prompt_across_steps_word_by_word(home: Path, run: FakeRun) -> None:
    async with reading(home, run.run) as reader:
        await reader.press("down")
        await at(reader, 30, "At step 30")
        await reader.press("p")
        await reader.sees("same prompt · newest first · 1/30", "◆")
        await reader.press("down", "down")
        await at(reader, 28)
        await reader.press("d")
        await reader.sees("from step 30 to step 28", "At step [-30-] {+28+} give it light")
        await reader.press("up")
        await reader.sees("{+29+}")
        await reader.press("space", "down")
        await reader.sees("from step 29 to step 28", "[-29-] {+28+}")
        await reader.press("ctrl+d", "ctrl+u", "escape")
        await reader.sees("token 1/10")
        await reader.press("escape")
        await reader.sees("samples · newest first", "/60")
        await reader.press("p", "p")
        await reader.sees("samples · newest first")


async def test_a_diff_asks_for_a_mark_first(home: Path, run: FakeRun) -> None:
    async with reading(home, run.run) as reader:
        await reader.sees("1/60")
        await reader.press("d")
        await reader.is_told("mark a sample with space")
        await reader.press("space", "d")
        await reader.sees("this is the marked sample")
        await reader.press("down")
        await reader.sees("different prompts", "[-Light")
        await reader.press("space", "space", "d")
        await reader.sees("token 1/10")


async def test_a_step_is_gone_to(home: Path, run: FakeRun) -> None:
    async with reading(home, run.run) as reader:
        await reader.sees("1/60")
        await reader.press("g", *"12", "enter")
        await at(reader, 12)
        await reader.press("g", *"999", "enter")
        await at(reader, 30)
        await reader.press("g", *"soon", "enter")
        await reader.is_told("'soon' is no step")
        await reader.press("escape", "down")
        await reader.sees("/60")


async def test_small_screens_show_one_pane_at_a_time(home: Path, run: FakeRun) -> None:
    async with reading(home, run.run, (80, 24)) as reader:
        await reader.sees("1/60", "▸    30")
        assert "token 1/5" not in reader.text
        await reader.press("enter")
        await reader.sees("token 1/5")
        assert "1/60" not in reader.text
        await reader.press("down")
        await reader.sees("token 1/10")
        await reader.press("enter")
        await reader.until(lambda: isinstance(reader.app.screen, TextPage))
        await reader.sees("PROMPT", "RESPONSE · step 30", "How do I keep basil alive?")
        await reader.press("escape", "tab")
        await reader.sees("2/60")
        await reader.press("tab", "escape")
        await reader.sees("2/60")


async def test_a_question_waits_is_answered_or_refused(home: Path, run: FakeRun) -> None:
    with alive(run.run):
        async with reading(home, run.run) as reader:
            await reader.press("i")
            await reader.sees("⏎ sends it")
            await reader.press(*"quack 4 me", "enter")
            await reader.sees("› quack 4 me", "is answered when step 31 is done")
            (command,) = inbox.pending(run.run.inbox)
            assert (command.kind, command.body) == ("sample", {"prompt": "quack 4 me"})
            run.answer(refuse="the prompt has 900 tokens")
            await reader.sees("refused: the prompt has 900 tokens")
            await reader.press("enter")
            await reader.sees("there is no prompt")
            await reader.press(*"again", "enter")
            (command,) = run.answer()
            about = {"policy": "policy", "command": command.id}
            run.store.samples(run.step, [sample("again", "Quack.", kind="asked", detail=about)])
            await reader.sees("answered after step", "policy · score 0.50", "Quack.")
            await reader.press("tab", "q")
            await reader.sees("asked", "Quack.", "token 1/")
            await reader.press("i", "escape")
            await reader.sees("token 1/")
            assert isinstance(reader.app.screen, SamplesScreen)


async def test_an_ended_run_answers_nobody_and_says_what_to_do(home: Path, run: FakeRun) -> None:
    run.store.end_session("stopped")
    async with reading(home, run.run) as reader:
        await reader.sees("stopped")
        await reader.press("i", *"why", "enter")
        await reader.sees("not sent: the run is stopped", f"workbench resume {run.run.id}")
        assert inbox.pending(run.run.inbox) == []


async def test_a_question_to_a_run_that_ends_meanwhile(home: Path, run: FakeRun) -> None:
    async with reading(home, run.run) as reader:
        with alive(run.run):
            await reader.sees("running")
            await reader.press("i", *"why", "enter")
            await reader.sees("sent;")
        run.store.end_session("done")
        await reader.sees("it did not answer: the run is done", "workbench fork")


async def test_the_mouse_chooses_samples_and_tokens(home: Path, run: FakeRun) -> None:
    async with reading(home, run.run) as reader:
        await reader.sees("1/60")
        await reader.pilot.click("#list", offset=(5, 6))
        await reader.sees("5/60")
        await reader.pilot.click("#response", offset=(20, 1))
        await reader.until(lambda: "token 1/" not in reader.text)


async def test_the_key_4_and_a_row_of_the_monitor_open_the_samples(
    home: Path, run: FakeRun
) -> None:
    app = WorkbenchApp(home)
    async with app.run_test(size=(120, 40)) as pilot:
        reader = Reader(app, pilot)
        await reader.press("4")
        await reader.is_told("no run was opened yet")
        app.open_monitor(run.run)
        await reader.sees("step 30")
        await reader.press("4", "4")
        await reader.sees("samples of demo", "1/60")
        await reader.press("q")
        assert isinstance(app.screen, MonitorScreen)
        await reader.sees("At step 30")
        await reader.press("s", "down", "enter")
        await reader.sees("2/60")
        assert sought(reader) == (30, "At step 30 give it light and a little water.")
        await reader.press("1")
        assert len(app.screen_stack) == 1


async def test_a_run_that_is_deleted_or_cannot_be_read_is_said(home: Path, run: FakeRun) -> None:
    async with reading(home, run.run) as reader:
        await reader.sees("1/60")
        run.run.spec_file.unlink()
        await reader.sees("the run was deleted; esc goes back")


def test_colours_are_symmetric_and_their_texts_contrast() -> None:
    assert len(PALETTE) == 17
    assert PALETTE[0].bgcolor.triplet == BLUE  # type: ignore[union-attr]
    assert PALETTE[-1].bgcolor.triplet == RED  # type: ignore[union-attr]
    figure = Figure("log-ratio", [0.0, 5.0, -5.0, float("nan"), 1.0, float("inf")], 2.0)
    assert figure.style(0) == figure.style(3) == figure.style(5) == Style()
    assert figure.style(1).bgcolor == PALETTE[-1].bgcolor
    assert figure.style(2).bgcolor == PALETTE[0].bgcolor
    assert (figure.style(1).bold, figure.style(2).italic) == (True, True)
    assert not figure.style(4).underline
    assert figure.style(4).bgcolor
    assert scale_of([*[1.0] * 99, 50.0, float("inf"), float("nan")]) == 1.0
    assert scale_of([]) == scale_of([0.0]) == 1.0
