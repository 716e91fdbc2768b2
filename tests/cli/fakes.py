"""Run folders as an engine leaves them, and a thread that plays the engine of one run."""

import json
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from click.testing import Result

from rlhf_engine.job.knobs import knob_values
from rlhf_engine.job.presets import parse_spec
from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir, create_run
from rlhf_engine.runs.lock import Lock
from rlhf_engine.runs.sample import Sample
from rlhf_engine.runs.writer import Outcome, Status, StoreWriter

Workbench = Callable[..., Result]
Records = Callable[..., list[dict[str, Any]]]

PPO = """
# A toy PPO job.

name = "toy"
stage = "ppo"
policy = "builtin:tiny-llama"
[data]
path = "prompts.jsonl"
[reward]
score = "rule:vowels"
"""

PIPELINE = """
# Two toy stages.

policy = "builtin:tiny-llama"
[data]
path = "rows.jsonl"
[[stages]]
stage = "sft"
[[stages]]
stage = "evaluate"
policy = "stage:sft"
reward.score = "rule:vowels"
"""

RESULT: dict[str, Any] = {
    "reference": "sft",
    "prompts": 60,
    "rows": [
        {
            "policy": "sft",
            "run": "a",
            "gold": 0.4123,
            "score": 0.05,
            "kl": 0.0,
            "response_tokens": 31.25,
            "eos_rate": 0.82,
        },
        {
            "policy": "ppo",
            "run": "b",
            "gold": 1.733,
            "score": 1.6,
            "kl": 4.456,
            "response_tokens": 20.0,
            "eos_rate": 1.0,
        },
    ],
    "differences": [
        {"policy": "ppo", "against": "sft", "metric": "gold", "mean": 1.3, "low": 1.0, "high": 1.6},
        {"policy": "ppo", "against": "sft", "metric": "score", "mean": 0.1, "low": -1, "high": 1.2},
    ],
    "samples": [
        {
            "prompt": "How do I keep basil alive on a windowsill through a dark winter?",
            "responses": {
                "sft": "Basil wants light and warmth, so put it at the brightest window that "
                "you have, and water it only when the soil is dry. It may help to",
                "ppo": "Give it your brightest window and a little water. You will do fine! 😊",
            },
        }
    ],
}


def make_run(home: Path, text: str = PPO, **fields: Any) -> RunDir:
    return create_run(home, parse_spec(tomllib.loads(text) | fields, "test"))


def write_steps(store: StoreWriter, run: RunDir, first: int, last: int) -> None:
    """Steps of a run that drifts: KL rises by one nat a step; one figure is not a number."""
    knobs = knob_values(run.spec())
    for step in range(first, last + 1):
        with store.transaction():
            nan = float("nan") if step == 2 else 0.5
            figures = {"score": 0.25 * step, "kl": float(step), "gold": nan}
            store.step(step, figures, knobs, {"generate": 0.5, "read data": 0.25})
            sample = Sample("train", f"p{step}", "Say hi", f"hi \x1b]2;{step}\x07", True, score=1.0)
            store.samples(step, [sample])


def finished_run(
    home: Path, outcome: Outcome = "done", error: str = "", text: str = PPO, **fields: Any
) -> RunDir:
    """A run of three steps that ended with `outcome`."""
    run = make_run(home, text, **fields)
    store = StoreWriter(run.store)
    store.set_fact("total_steps", "3")
    store.start_session(None)
    for name, value in knob_values(run.spec()).items():
        store.knob(1, name, None, value, "config")
    write_steps(store, run, 1, 3)
    store.event(3, "warn", "kl", "KL \x1b[31mrises")
    store.progress("running", "update", 3, 3, "minibatches")
    store.end_session(outcome, error)
    store.close()
    return run


def evaluated_run(home: Path) -> RunDir:
    """A finished evaluation whose score came from a reward run with held-out accuracy 0.81."""
    reward_text = 'name = "r"\nstage = "reward"\npolicy = "builtin:tiny-llama"\ndata.path = "d"'
    reward = make_run(home, reward_text)
    store = StoreWriter(reward.store)
    store.start_session(None)
    store.step(1, {"accuracy": 0.7, "eval_accuracy": 0.6}, {}, {})
    store.step(2, {"accuracy": 0.9, "eval_accuracy": 0.8125}, {}, {})
    store.step(3, {"accuracy": 0.9}, {}, {})
    store.end_session("done")
    store.close()
    judge = {"score": f"run:{reward.id}", "gold": ["rule:vowels"]}
    run = finished_run(home, stage="evaluate", name="judged", reward=judge)
    store = StoreWriter(run.store)
    store.set_fact("result", json.dumps(RESULT))
    store.close()
    return run


def asked(command: inbox.Command) -> list[Sample]:
    """The policy's answer to a person's prompt, and the reference's."""
    return [
        Sample(
            "asked",
            "mine",
            command.body["prompt"],
            f"the {who} says \x1b]2;hi\x07",
            who == "policy",
            kl=1.5 if who == "policy" else None,
            detail={"policy": who, "command": command.id},
        )
        for who in ("policy", "reference")
    ]


class FakeEngine:
    """Holds a run's lock and writes its store as an engine does, one step in each beat.

    `answers` decides on each command: a note refuses it, None applies it. It ends with `outcome`
    after `steps` steps.
    """

    def __init__(
        self,
        run: RunDir,
        *,
        steps: int = 1_000_000,
        outcome: Outcome = "done",
        answers: Callable[[inbox.Command], str | None] | None = lambda command: None,
        status: Status = "running",
        result: dict[str, Any] | None = None,
    ) -> None:
        self.run = run
        self._steps, self._outcome, self._answers = steps, outcome, answers
        self._status, self._result = status, result
        self._end = threading.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self._end.set()
        self._thread.join()

    def _play(self) -> None:
        lock = Lock.take(self.run.lock, "fake")
        assert lock is not None
        store = StoreWriter(self.run.store)
        found = store.query("SELECT max(step) FROM steps")[0][0]
        step = found or 0
        store.start_session(found)
        store.set_fact("total_steps", str(self._steps))
        store.progress(self._status, "generate", 3, 32, "responses")
        self._started.set()
        while step < self._steps and not self._end.is_set():
            if self._status == "running":
                step += 1
                write_steps(store, self.run, step, step)
            if self._answers is not None and self._answer(store, step + 1):
                break
            self._end.wait(0.02)
        if self._result is not None:
            store.set_fact("result", json.dumps(self._result))
        store.end_session(self._outcome)
        store.close()
        lock.release()

    def _answer(self, store: StoreWriter, step: int) -> bool:
        stop = False
        for path in inbox.waiting(self.run.inbox):
            command = inbox.read(path)
            assert self._answers is not None
            refusal = self._answers(command)
            with store.transaction():
                if command.kind == "sample" and not refusal:
                    store.samples(step, asked(command))
                if command.kind == "evaluate" and not refusal:
                    store.measured(step, {"eval_score": 1.25, "eval_kl": 0.5}, command.id)
                store.command(command, "rejected" if refusal else "applied", step, refusal or "")
            path.unlink()
            stop = stop or command.kind == "stop"
        return stop
