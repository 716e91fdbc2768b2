"""kill -9 at random moments: nothing committed is lost, no command lost or applied twice."""

import random
import time

import pytest

from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.launch import start_engine
from rlhf_engine.runs.lineage import replay
from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.state import run_state
from tests.engine.conftest import Lab

STEPS = 40


def kill_and_resume(lab: Lab, kills: int, seed: int, *overrides: str) -> None:
    """Kill a steered run again and again; compare it with one that is replayed undisturbed."""
    chance = random.Random(seed)
    run = lab.start("smoke", f"ppo.steps={STEPS}", "checkpoints.every=3", *overrides)
    sent: list[str] = []
    committed: dict[int, dict[str, float]] = {}
    for _ in range(kills):
        lab.until(lambda: run_state(run).word in ("running", "done"), "the engine")
        value = round(chance.uniform(0.0, 0.2), 4)
        sent.append(inbox.send(run.inbox, "set", {"knob": "kl_coef", "value": value}))
        # Most kills come while steps are done, some while the engine starts.
        if chance.random() < 0.8:
            lab.at_step(run, lab.step_of(run) + chance.randint(1, 8))
        time.sleep(chance.uniform(0.0, 0.5))
        if run_state(run).ended:
            break
        lab.kill(run)
        for step, figures in lab.figures(run).items():
            assert committed.setdefault(step, figures) == figures, f"step {step} changed"
        if run_state(run).word == "done":
            break
        start_engine(run)
    lab.until(lambda: run_state(run).word == "done", "the end")

    assert [row.step for row in lab.steps(run)] == list(range(1, STEPS + 1))
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        commands = {row.id: row for row in reader.commands()}
        changes = [k for k in reader.knobs() if k.source == "command"]
    assert set(sent) == set(commands), "every command is acknowledged once"
    assert not inbox.waiting(run.inbox)
    applied = [c for c in sent if commands[c].state == "applied"]
    assert [change.command_id for change in changes] == applied, "in order, once each"
    assert [change.step for change in changes] == [commands[c].step for c in applied]
    final = lab.figures(run)
    for step, figures in committed.items():
        assert figures == final[step], f"step {step} was lost"

    undisturbed = replay(run)
    assert lab.ended(undisturbed).word == "done", run_state(undisturbed).detail
    assert lab.figures(undisturbed) == final
    assert lab.weights(undisturbed) == lab.weights(run)
    for original, repeated in zip(history(run), history(undisturbed), strict=True):
        assert original == repeated, "the knobs' history has no hole"


def history(run: RunDir) -> list[tuple[int, str, float | None, float]]:
    """Every live change of a knob, whoever made it."""
    with StoreReader.open(run.store) as reader:  # type: ignore[union-attr]
        return [(row.step, row.name, row.old, row.new) for row in reader.knobs()]


@pytest.mark.cold
def test_three_kills(lab: Lab) -> None:
    adaptive = ("ppo.kl.controller=adaptive", "ppo.kl.horizon=200")
    kill_and_resume(lab, 3, 0, "ppo.advantage=rloo", *adaptive)


@pytest.mark.cold
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("advantage", ["gae", "rloo"])
def test_ten_kills(lab: Lab, seed: int, advantage: str) -> None:
    adaptive = ("ppo.kl.controller=adaptive", "ppo.kl.horizon=200")
    kill_and_resume(lab, 10, seed, f"ppo.advantage={advantage}", *adaptive)
