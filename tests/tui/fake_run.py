"""Runs on disk as engines leave them, without an engine: alive, finished, lost, hostile."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_engine.job.knobs import knob_values
from rlhf_engine.job.presets import parse_spec
from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir, create_run
from rlhf_engine.runs.inbox import Command
from rlhf_engine.runs.lock import Lock
from rlhf_engine.runs.sample import Sample
from rlhf_engine.runs.writer import StoreWriter

SPECS: dict[str, dict[str, object]] = {
    "ppo": {
        "data": {"path": "prompts.jsonl"},
        "reward": {"score": "rule:length"},
        "ppo": {"batch_size": 8, "minibatches": 2, "kl": {"coef": 0.05}},
    },
    "sft": {"data": {"path": "chats.jsonl"}},
    "reward": {"data": {"path": "pairs.jsonl"}},
    "dpo": {"data": {"path": "pairs.jsonl"}},
    "collect": {"data": {"path": "prompts.jsonl"}, "reward": {"score": "rule:length"}},
    "evaluate": {"data": {"path": "prompts.jsonl"}, "reward": {"score": "rule:length"}},
}
# What a step's time goes to.
PHASES: dict[str, dict[str, float]] = {
    "ppo": {"generate": 0.22, "judge": 0.02, "measure": 0.11, "update": 0.65},
    "sft": {"train": 1.0},
    "reward": {"train": 1.0},
    "dpo": {"train": 0.8, "generate": 0.15, "measure": 0.05},
    "collect": {"generate": 0.9, "score": 0.1},
    "evaluate": {"generate": 0.9, "score": 0.1},
}
HOSTILE = (
    "[/b] [red]\x1b]2;owned\x07\x1b[2J\x9b31m \u202etxet [/INST] $(x) {y} "
    "\U0001f469\u200d\U0001f680 漢字"
)


@dataclass
class FakeRun:
    """A run's folder and the pen that writes its store."""

    run: RunDir
    stage: str
    store: StoreWriter
    total: int = 500
    step: int = 0
    knobs: dict[str, float] = field(default_factory=dict)
    noise: random.Random = field(default_factory=lambda: random.Random(7))

    def steps(self, count: int, **metrics: float) -> None:
        """Finish steps with figures as a run of this stage reports them."""
        with self.store.transaction():
            for _ in range(count):
                self.step += 1
                row = figures(self.stage, self.step, self.noise) | metrics
                spent = phases(self.stage, 0.8)
                self.store.step(self.step, row, self.knobs, spent, {"update": 3 * 2**29})

    def samples(self, prompt: str, response: str, count: int = 4) -> None:
        self.store.samples(
            self.step,
            [
                Sample("train", f"p{i}", prompt, response, True, score=0.5 * i, kl=1.5 + i)
                for i in range(count)
            ],
        )

    def turn(self, name: str, value: float, source: str = "command", command: str = "") -> None:
        """Change a knob from the next step on."""
        self.store.knob(self.step + 1, name, self.knobs[name], value, source, command)
        self.knobs[name] = value

    def answer(self, refuse: str = "") -> list[Command]:
        """Finish the step that runs, then take up what waits, as an engine does."""
        self.steps(1)
        taken = inbox.pending(self.run.inbox)
        for command in taken:
            with self.store.transaction():
                if command.kind == "set" and not refuse:
                    self.turn(command.body["knob"], command.body["value"], command=command.id)
                state = "rejected" if refuse else "applied"
                self.store.command(command, state, self.step + 1, refuse)
            (self.run.inbox / f"{command.id}.json").unlink()
        self.steps(1)
        return taken

    def busy(self, phase: str = "generate", done: float = 12, total: float = 32) -> None:
        self.store.progress("running", phase, done, total, "responses")


def folder(home: Path, stage: str = "ppo", name: str = "demo") -> RunDir:
    """A run that no engine has touched yet."""
    table = {"stage": stage, "name": name, "policy": "builtin:tiny-llama"} | SPECS[stage]
    run = create_run(home, parse_spec(table, "test"))
    run.log.write_text("engine: hello\n")
    return run


def fake_run(home: Path, stage: str = "ppo", name: str = "demo", total: int = 500) -> FakeRun:
    """A run with a store, a session and no step yet."""
    run = folder(home, stage, name)
    store = StoreWriter(run.store)
    store.set_fact("total_steps", str(total))
    fake = FakeRun(run, stage, store, total, knobs=knob_values(run.spec()))
    store.start_session(None)
    for knob, value in fake.knobs.items():
        store.knob(1, knob, None, value, "config")
    fake.busy()
    return fake


@contextmanager
def alive(run: RunDir) -> Iterator[None]:
    """While inside, the run's lock is held and its heart beats."""
    lock = Lock.take(run.lock, "test")
    assert lock is not None
    lock.beat()
    try:
        yield
    finally:
        lock.release()


def phases(stage: str, seconds: float) -> dict[str, float]:
    """Seconds of each phase of a step that took so many."""
    return {name: share * seconds for name, share in PHASES[stage].items()}


def figures(stage: str, step: int, noise: random.Random) -> dict[str, float]:
    """Plausible metrics of one step."""
    way = 1 - math.exp(-step / 120)
    jitter = noise.gauss(0, 1)
    common = {"lr": 1e-5, "grad_norm": 0.8 + 0.1 * abs(jitter), "seconds": 0.8}
    match stage:
        case "sft":
            loss = 2.4 - 1.1 * way + 0.08 * jitter
            row = common | {"loss": loss, "token_accuracy": 0.4 + 0.25 * way + 0.01 * jitter}
            held_out = {"eval_loss": 2.5 - way, "eval_token_accuracy": 0.39 + 0.22 * way}
            return row | held_out if step % 25 == 0 else row
        case "reward":
            loss = 0.69 - 0.3 * way + 0.03 * jitter
            row = common | {"loss": loss, "accuracy": 0.5 + 0.3 * way, "margin": way + 0.1 * jitter}
            return row | {"eval_accuracy": 0.5 + 0.25 * way} if step % 25 == 0 else row
        case "dpo":
            chosen, rejected = 0.2 * way + 0.05 * jitter, -0.9 * way + 0.05 * jitter
            row = common | {
                "loss": 0.69 - 0.25 * way + 0.02 * jitter,
                "accuracy": 0.5 + 0.3 * way,
                "margin": chosen - rejected,
                "chosen_reward": chosen,
                "rejected_reward": rejected,
                "chosen_logp": -61 + 2 * way,
                "rejected_logp": -70 - 9 * way,
            }
            own = {"kl": 3 * way, "response_tokens": 31 - 9 * way, "eos_rate": 0.97}
            held_out = {"eval_loss": 0.69 - 0.2 * way, "eval_accuracy": 0.5 + 0.25 * way}
            row |= own if step % 10 == 1 else {}
            return row | held_out | {"eval_kl": 3.1 * way} if step % 25 == 0 else row
        case "collect" | "evaluate":
            answers = {"score": 0.3 + 0.2 * jitter, "kl": 0.5, "response_tokens": 30 + 3 * jitter}
            return answers | {"eos_rate": 0.9, "seconds": 0.8}
    kl = 8 * way * math.exp(0.2 * jitter) if step > 1 else 0.0
    score = -0.8 + 2.5 * way + 0.25 * noise.gauss(0, 1)
    return common | {
        "score": score,
        "score_std": 0.4,
        "gold": -0.8 + 1.7 * way + 0.2 * jitter,
        "kl": kl,
        "kl_k3": 0.9 * kl,
        "net_reward": score - 0.05 * kl,
        "entropy": 32 - 9 * way,
        "approx_kl": 0.011 + 0.002 * jitter,
        "clip_fraction": 0.06 + 0.01 * jitter,
        "policy_loss": -0.01,
        "value_loss": 0.08 + 0.01 * jitter,
        "explained_variance": 0.4 * way,
        "response_tokens": 38 + jitter,
        "eos_rate": 0.97,
        "tokens_per_second": 1350 + 20 * jitter,
        "logp_mismatch": 2e-7,
    }
