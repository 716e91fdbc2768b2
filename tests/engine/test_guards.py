"""Guards in real engines: they fire, act once, and repeat themselves under kills and in replays."""

from pathlib import Path

import pytest

from rlhf_engine.commands import Desk
from rlhf_engine.job.presets import load_preset
from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import start_engine
from rlhf_engine.runs.lineage import fork, replay
from rlhf_engine.runs.reader import EventRow, KnobRow, StoreReader
from rlhf_engine.runs.state import run_state
from rlhf_engine.runs.writer import StoreWriter
from tests.engine.conftest import Lab

SMALL = ("ppo.batch_size=8", "checkpoints.every=2", "checkpoints.keep=9")
ADAPTIVE = ("ppo.kl.controller=adaptive", "ppo.kl.horizon=100")
RAISE = (
    '{metric = "kl", above = 0.05, times = "kl_target", steps = 2, mode = "act", cooldown = 2,'
    ' action = "scale", knob = "kl_coef", factor = 1.5}'
)


def finished(lab: Lab, run: RunDir) -> None:
    lab.until(lambda: run_state(run).word in ("done", "failed"), f"the end of {run.id}")
    assert run_state(run).word == "done", run_state(run).detail


def told(run: RunDir) -> list[EventRow]:
    """The firings that stand, as the charts count them: one for each that was not done again."""
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        sessions = reader.sessions()
        return [
            event
            for event in reader.events()
            if event.kind == "guard"
            and not any(
                later.id > event.session and (later.resumed_from_step or 0) < event.step
                for later in sessions
            )
        ]


def began(run: RunDir) -> list[str]:
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        return [session.began for session in reader.sessions()]


def moves(run: RunDir, source: str = "guard") -> list[KnobRow]:
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        return [row for row in reader.knobs() if row.source == source]


@pytest.mark.slow
def test_a_guard_turns_its_knob_once_also_under_kills_in_a_fork_and_in_a_replay(lab: Lab) -> None:
    shape = (*SMALL, *ADAPTIVE, f"guards=[{RAISE}]", "ppo.steps=12")
    calm = lab.start("smoke", *shape, name="calm")
    finished(lab, calm)
    fired = told(calm)
    knobs = {row.step: row.knobs["kl_coef"] for row in lab.steps(calm)}
    steps = {row.step: row for row in lab.steps(calm)}
    assert len([event for event in fired if event.step < 12]) >= 2
    assert all(event.level == "warn" for event in fired)
    acted = [event for event in fired if event.data["mode"] == "act"]
    for event, row in zip(acted, moves(calm), strict=True):
        assert (row.step, row.name) == (event.step + 1, "kl_coef")
        assert (row.old, row.new) == (event.data["old"], event.data["new"])
        assert row.new == float(f"{1.5 * (row.old or 0):.6g}")
        assert knobs[row.step] == row.new, "it comes after the controller's move"
        held = [steps[step].metrics["kl"] for step in event.data["steps"]]
        assert event.data["figures"] == held
        assert min(held) > 0.05 * steps[event.step].knobs["kl_target"]
        assert f"workbench samples {calm.id} --step {event.step}" in event.text
    assert fired[1].step >= fired[0].step + 4, "it rests, and has to hold again"

    harried = lab.start("smoke", *shape, name="harried")
    for step in (fired[0].step, fired[0].step + 1, fired[1].step):
        lab.until(lambda: lab.step_of(harried) >= step, f"step {step}")  # noqa: B023
        lab.kill(harried)
        start_engine(harried)
    finished(lab, harried)
    assert lab.figures(harried) == lab.figures(calm)
    assert lab.weights(harried) == lab.weights(calm)
    assert [event.data for event in told(harried)] == [event.data for event in fired]
    ours, theirs = ([(m.step, m.old, m.new) for m in moves(run)] for run in (calm, harried))
    assert ours == theirs

    again, child = replay(harried), fork(calm, fired[0].step - fired[0].step % 2)
    finished(lab, again)
    assert lab.figures(again) == lab.figures(calm)
    assert lab.weights(again) == lab.weights(calm)
    assert [(m.step, m.new) for m in moves(again, "schedule")] == [
        (m.step, m.new) for m in moves(calm)
    ]
    assert not moves(again)
    finished(lab, child)
    assert lab.weights(child) == lab.weights(calm), "a fork has the counts and moves of its parent"


def test_a_guard_rolls_back_and_waits_for_a_person(lab: Lab) -> None:
    rule = '{metric = "kl", above = 3, steps = 1, mode = "act", action = "rollback"}'
    run = lab.start("smoke", *SMALL, f"guards=[{rule}]", "ppo.steps=6")
    lab.until(lambda: run_state(run).word == "paused", "the guard")
    state = run_state(run)
    assert "kl above 3 in step" in state.detail
    assert f"rolled back to step {state.step}" in state.detail
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        first = next(event for event in reader.events() if event.kind == "guard")
    assert state.step == first.step - 1 - (first.step - 1) % 2
    assert not told(run), "what was taken back is history"
    lab.kill(run)
    start_engine(run)
    lab.until(lambda: began(run)[2:] == ["resume", "rollback"], "the same steps and the guard")
    lab.until(lambda: run_state(run).word == "paused", "the pause")
    assert run_state(run).step == state.step
    inbox.send(run.inbox, "set", {"knob": "lr", "value": 0.0})
    inbox.send(run.inbox, "resume")
    finished(lab, run)
    assert [row.step for row in lab.steps(run)] == list(range(1, 7))
    assert max(row.metrics["kl"] for row in lab.steps(run)) <= 3
    assert began(run) == ["start", "rollback", "resume", "rollback"]


def test_a_guard_pauses_once_and_says_why(lab: Lab) -> None:
    rule = '{metric = "kl", above = 0.5, steps = 1, mode = "act", action = "pause", cooldown = 99}'
    run = lab.start("smoke", *SMALL, f"guards=[{rule}]", "ppo.steps=6")
    lab.until(lambda: run_state(run).word == "paused", "the guard")
    at = run_state(run).step
    assert f"paused after step {at}: guard: kl above 0.5 in step {at}" in run_state(run).detail
    inbox.send(run.inbox, "resume")
    lab.until(lambda: lab.step_of(run) > at, "the next step")
    lab.kill(run)
    start_engine(run)
    finished(lab, run)
    assert [event.step for event in told(run)] == [at]


def test_a_persons_change_at_the_step_of_a_guards_comes_after_it(tmp_path: Path) -> None:
    (spec,) = load_preset("smoke", ['changes=[{step = 2, knob = "clip", value = 0.3}]']).stages
    store, folder = StoreWriter(tmp_path / "run.db"), tmp_path / "inbox"
    folder.mkdir()
    desk = Desk(spec, store, folder)
    desk.start(0, None)
    desk.open_step(1)
    desk.clear(desk.commit(1))
    desk.steer({"kl_coef": 0.02}, {"kl_coef": 0.03, "clip": 0.1, "lr": 0.1})
    inbox.send(folder, "set", {"knob": "kl_coef", "value": 0.5})
    desk.open_step(2)
    assert [desk.knobs[name] for name in ("kl_coef", "clip", "lr")] == [0.5, 0.3, 0.1]
    store.session = 1
    desk.clear(desk.commit(2))
    rows = store.query("SELECT name, old, new, source FROM knobs WHERE step = 2 ORDER BY seq")
    assert rows == [
        ("kl_coef", 0.01, 0.02, "controller"),
        ("kl_coef", 0.02, 0.03, "guard"),
        ("clip", 0.2, 0.1, "guard"),
        ("lr", 0.005, 0.1, "guard"),
        ("clip", 0.1, 0.3, "schedule"),
        ("kl_coef", 0.03, 0.5, "command"),
    ]
    assert desk.state()["guarded"] == {}
