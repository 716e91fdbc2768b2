"""Health: words from the spec's limits, and what a guard advises until somebody has answered."""

import math
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from rlhf_engine.job.guards import limits_of
from rlhf_engine.job.presets import parse_spec
from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir, create_run
from tests.tui.fake_run import HOSTILE, SPECS, FakeRun, alive, fake_run
from tests.tui.monitor.conftest import MonitorViewer, viewing
from workbench.widgets.health import FIGURES, Health

DEARER = {
    **{"metric": "kl", "above": 2.0, "times": "kl_target", "steps": 3, "mode": "advise"},
    **{"action": "scale", "knob": "kl_coef", "factor": 1.5},
}
HOLD = {"metric": "entropy", "below": 0.1, "steps": 1, "action": "pause"}
BACK = {"metric": "grad_norm", "not_finite": True, "steps": 1, "action": "rollback"}


@pytest.fixture
def guarded(home: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    """A run with three rules and limits of its own."""
    table = SPECS["ppo"] | {
        "guards": [DEARER, HOLD, BACK],
        "health": {"entropy": [30.0, 20.0], "eos_rate": [], "value_loss": [0.01, 0.02]},
    }
    monkeypatch.setitem(SPECS, "ppo", table)
    return fake_run(home)


def fire(fake: FakeRun, rule: int, **more: object) -> None:
    """What an engine writes when a rule has held at the last three steps."""
    steps = [fake.step - 2, fake.step - 1, fake.step]
    data = {"rule": rule, "mode": "advise", "steps": steps, **more}
    fake.store.event(fake.step, "warn", "guard", "guard: some rule", data)


def panel(viewer: MonitorViewer) -> str:
    """The panel alone, as it stands on the screen."""
    region = viewer.monitor.query_one(Health).region
    lines = viewer.text.splitlines()[region.y : region.bottom]
    return "\n".join(line.ljust(region.right)[region.x : region.right] for line in lines)


async def test_the_panel_looks_right(
    home: Path, guarded: FakeRun, snapshot: SnapshotAssertion
) -> None:
    guarded.steps(40)
    guarded.steps(3, kl=14.0)
    fire(guarded, 0, old=0.05, new=0.075)
    with alive(guarded.run):
        async with viewing(home, guarded.run) as viewer:
            await viewer.sees("step 43/500", "a stages it")
            assert await viewer.picture(snapshot, lambda: panel(viewer)) == snapshot


async def test_words_are_those_of_the_runs_own_limits(home: Path, guarded: FakeRun) -> None:
    guarded.steps(3, entropy=25.0, eos_rate=0.0, value_loss=0.5, kl=13.0, score_std=math.nan)
    with alive(guarded.run):
        async with viewing(home, guarded.run) as viewer:
            await viewer.sees("step 3/500", "entropy")
            lines = [line.strip("│ ").split() for line in panel(viewer).splitlines()[1:-1]]
            words = {" ".join(line[:-3]) or line[0]: line[-1] for line in lines if len(line) > 3}
            assert words["entropy"] == "watch"
            assert words["value loss"] == "bad"
            assert words["score std"] == "bad"
            assert "EOS rate" not in words, "without limits there is no word"
            assert words["KL / target"] == "watch"
            assert "2.17" in panel(viewer)


async def test_advice_is_staged_by_a_key_and_goes_once_it_is_taken(
    home: Path, guarded: FakeRun
) -> None:
    guarded.steps(5, kl=14.0)
    fire(guarded, 0, old=0.05, new=0.075)
    with alive(guarded.run):
        async with viewing(home, guarded.run) as viewer:
            await viewer.sees("kl_coef 0.05", "0.075", "a stages it")
            await viewer.press("a")
            await viewer.sees("→ 0.075 staged")
            assert inbox.pending(guarded.run.inbox) == []
            await viewer.press("enter")
            (command,) = inbox.pending(guarded.run.inbox)
            assert command.body == {"knob": "kl_coef", "value": 0.075}
            guarded.steps(1, kl=14.0)
            guarded.answer()
            guarded.steps(1, kl=14.0)
            await viewer.until(lambda: "a stages it" not in viewer.text)
            await viewer.press("a")
            await viewer.sees("no guard advises anything now")


async def test_advice_goes_when_the_rule_no_longer_holds(home: Path, guarded: FakeRun) -> None:
    guarded.steps(3, kl=14.0)
    fire(guarded, 0, old=0.05, new=0.075)
    with alive(guarded.run):
        async with viewing(home, guarded.run) as viewer:
            await viewer.sees("a stages it")
            guarded.steps(1, kl=2.0)
            await viewer.sees("step 4/500")
            await viewer.until(lambda: "a stages it" not in viewer.text)


async def test_what_an_acting_guard_did_is_no_advice(home: Path, guarded: FakeRun) -> None:
    guarded.steps(3, kl=14.0)
    fire(guarded, 0, old=0.05, new=0.075, mode="act")
    guarded.turn("kl_coef", 0.075, source="guard")
    guarded.steps(1, kl=14.0)
    with alive(guarded.run):
        async with viewing(home, guarded.run) as viewer:
            await viewer.sees("kl_coef 0.05 → 0.075 at step 4 by guard")
            assert "stages it" not in viewer.text


@pytest.mark.parametrize(
    ("rule", "metrics", "says"),
    [
        (1, {"entropy": 0.01}, "pause: p pauses"),
        (2, {"grad_norm": math.nan}, "go back to before step 1: b goes back"),
    ],
)
async def test_other_actions_name_their_key(
    home: Path, guarded: FakeRun, rule: int, metrics: dict[str, float], says: str
) -> None:
    guarded.steps(3, **metrics)
    fire(guarded, rule)
    with alive(guarded.run):
        async with viewing(home, guarded.run) as viewer:
            await viewer.sees("step 3/500")
            flat = " ".join(panel(viewer).replace("│", " ").split())
            assert says in flat
            await viewer.press("a")
            assert viewer.monitor.steering.problem.endswith(says)
            assert not viewer.monitor.steering.staged


async def test_a_small_terminal_has_the_advice_in_its_line(home: Path, guarded: FakeRun) -> None:
    guarded.steps(3, kl=14.0)
    fire(guarded, 0, old=0.05, new=0.075)
    with alive(guarded.run):
        async with viewing(home, guarded.run, (80, 24)) as viewer:
            await viewer.sees("guard: kl_coef → 0.075 (a)")


async def test_events_that_make_no_sense_are_passed_over(home: Path, guarded: FakeRun) -> None:
    guarded.steps(3, kl=14.0)
    fire(guarded, 0, old=0.05, new=0.075)
    fire(guarded, 7)
    fire(guarded, 0, new=HOSTILE, old=[])
    guarded.store.event(3, "warn", "guard", HOSTILE, {"rule": HOSTILE, "mode": "advise"})
    with alive(guarded.run):
        async with viewing(home, guarded.run) as viewer:
            await viewer.sees("step 3/500", "guard")
            assert "\x1b" not in viewer.text
            await viewer.press("a")


async def test_a_firing_that_was_taken_back_is_no_advice(home: Path, guarded: FakeRun) -> None:
    guarded.steps(5, kl=14.0)
    fire(guarded, 0, old=0.05, new=0.075)
    guarded.store.start_session(3, "rollback")
    with alive(guarded.run):
        async with viewing(home, guarded.run) as viewer:
            await viewer.sees("step 3/500")
            assert "stages it" not in viewer.text


@pytest.mark.parametrize("stage", sorted(FIGURES))
def test_every_limit_of_a_stage_has_its_figure_in_the_panel(tmp_path: Path, stage: str) -> None:
    table = {"stage": stage, "name": "demo", "policy": "builtin:tiny-llama"} | SPECS[stage]
    run: RunDir = create_run(tmp_path, parse_spec(table, "test"))
    assert limits_of(run.spec()).keys() <= {figure.metric for figure in FIGURES[stage]}
