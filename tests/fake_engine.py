"""A process that runs a job without a model: the store, lock and inbox are real, the figures not.

python -m tests.fake_engine HOME [--stage ppo] [--speed 2] [--samples 8] [--hostile] ...

Prints the run's id, then makes steps at that speed until the run is done, stopped or killed. With
the folder of a run instead of HOME it goes on where that run was left. Viewers cannot tell it from
an engine: it takes the lock, beats, reports phases, and obeys what is sent.
"""

import argparse
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

from rlhf_engine.commands import Desk
from rlhf_engine.job.presets import parse_spec
from rlhf_engine.job.spec import Spec
from rlhf_engine.runs import checkpoints
from rlhf_engine.runs.directory import RunDir, create_run
from rlhf_engine.runs.inbox import Command
from rlhf_engine.runs.lock import Lock
from rlhf_engine.runs.writer import StoreWriter
from tests.fake_figures import Figures
from tests.tui.fake_run import HOSTILE, PHASES, SPECS, phases

POLL_SECONDS = 0.2
REPORT_SECONDS = 0.5
# Steps that were there before: so many in one transaction.
AT_ONCE = 500


class FakeEngine:
    """One life of a run whose steps cost nothing but the time they are told to take."""

    def __init__(self, run: RunDir, speed: float, samples: float, hostile: bool, seed: int) -> None:
        self.run = run
        self.spec: Spec = run.spec()
        self._seconds = 1 / speed
        self._hostile = hostile
        self._per_step = samples
        self._lock = Lock.take(run.lock, json.dumps(_about()))
        if self._lock is None:
            sys.exit(f"{run.id} is running already")
        self.store = StoreWriter(run.store)
        self.desk = Desk(self.spec, self.store, run.inbox)
        self.figures = Figures(self.spec, seed, hostile)
        self.done = 0
        self._due = self._reported = 0.0

    def live(self, total: int, begin: int) -> None:
        """Do the steps that are missing; `begin` of them are there at once."""
        assert self._lock is not None
        self._lock.beat()
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)
        self._open_session(total)
        self._log(f"fake engine of {self.run.id}: step {self.done} of {total}")
        while self.done < min(begin, total):
            self._past(min(AT_ONCE, begin - self.done, total - self.done))
        self._due = time.monotonic()
        while self._between_steps() and self.done < total:
            if self._wait():
                self._step()
        self._close("done" if self.done >= total else "stopped")

    def _ask(self, *_: object) -> None:
        self.desk.stop_asked = True

    def _open_session(self, total: int) -> None:
        first = not self.store.query("SELECT 1 FROM sessions LIMIT 1")
        self.done = self.store.last_step()
        if first:
            self.store.start_session(None)
        else:
            self.store.start_session(self.done, "resume")
            self.store.event(self.done, "info", "resume", f"resumed after step {self.done}")
        self.store.set_fact("total_steps", str(total))
        self.store.set_fact("device", "cpu")
        self._go_on_from(self.done)

    def _go_on_from(self, step: int) -> None:
        rows = self.store.query(
            "SELECT knobs FROM steps WHERE step = ? ORDER BY seq DESC LIMIT 1", step
        )
        self.done = step
        self.desk.start(step, json.loads(rows[0][0]) if step and rows else None)

    def _past(self, count: int) -> None:
        with self.store.transaction():
            taken = []
            for _ in range(count):
                self.desk.open_step(self.done + 1)
                taken += self._record()
        self.desk.clear(taken)

    def _between_steps(self) -> bool:
        """Obey what was sent, and rest while the run is paused; False once it is to stop."""
        desk, said = self.desk, False
        while True:
            desk.open_step(self.done + 1)
            if command := desk.rollback_asked:
                desk.rollback_asked = None
                self._roll_back(command)
                continue
            if desk.checkpoint_asked or desk.stop_asked:
                desk.checkpoint_asked = False
                self._save()
            if desk.stop_asked or not desk.paused:
                return not desk.stop_asked
            why = f"paused after step {self.done}"
            if not said:
                self.store.event(self.done, "info", "pause", why)
                self.store.progress("paused", why, text=why)
            said = True
            time.sleep(POLL_SECONDS)
            self._due = time.monotonic()

    def _wait(self) -> bool:
        """Let the step's time pass, phase by phase; False if a pause or stop came in between."""
        start, now = self._due, time.monotonic()
        # A step that could not be made in time is not made up for.
        self._due = max(start + self._seconds, now - 1.0)
        while (left := self._due - (now := time.monotonic())) > 0:
            if now - self._reported >= REPORT_SECONDS:
                self._reported = now
                self._report(1 - left / self._seconds)
            time.sleep(min(left, 0.1))
            if self._seconds > 2 * POLL_SECONDS and (
                self.desk.interrupts() or self.desk.stop_asked
            ):
                self._due = time.monotonic()
                return False
        return True

    def _report(self, share: float) -> None:
        names = list(PHASES[self.spec.stage])
        place = min(len(names) - 1, int(share * len(names)))
        done = round(32 * (share * len(names) - place))
        name = HOSTILE if self._hostile and place == 1 else names[place]
        self.store.progress("running", name, done, 32, "responses")

    def _step(self) -> None:
        with self.store.transaction():
            taken = self._record()
        self.desk.clear(taken)
        if self.done % self.spec.checkpoints.every == 0:
            self._save()
        if self.done % 100 == 0:
            self._log(f"step {self.done}")

    def _record(self) -> list[str]:
        """Put one step into the transaction; return the ids of the commands that it took up."""
        step, knobs = self.done + 1, dict(self.desk.knobs)
        metrics = self.figures.metrics(step, knobs)
        metrics["seconds"] = self._seconds
        spent = phases(self.spec.stage, self._seconds)
        if self._hostile:
            spent = {f"{name} {HOSTILE}": took for name, took in spent.items()}
        self.store.step(step, metrics, knobs, spent, {"update": 3 * 2**29})
        count = int(step * self._per_step) - int((step - 1) * self._per_step)
        self.store.samples(step, self.figures.samples(count, knobs))
        if self._hostile and step % 50 == 1:
            self.store.event(step, "warn", "metrics", f"not a finite number: {HOSTILE}")
        taken = self.desk.commit(step)
        self.done = step
        return taken

    def _save(self) -> None:
        folder = checkpoints.folder_of(self.run.checkpoints, self.done)
        if not self.done or folder.exists():
            return
        part = folder.with_suffix(".tmp")
        part.mkdir(mode=0o700)
        (part / checkpoints.VALUES).write_text(json.dumps({"stage": {}, **self.desk.state()}))
        size = checkpoints.seal(part, self.done)
        part.rename(folder)
        gone = checkpoints.prune(self.run.checkpoints, self.spec.checkpoints.keep, 0)
        with self.store.transaction():
            self.store.checkpoint(self.done, str(folder), size)
            for old in gone:
                self.store.forget_checkpoint(old)

    def _roll_back(self, command: Command) -> None:
        step = command.body.get("step")
        known = sorted({0} | {saved for saved, _ in checkpoints.saved(self.run.checkpoints)})
        if step not in known:
            options = ", ".join(map(str, known))
            self.desk.refuse(
                command, self.done, f"no checkpoint of step {step}; it can go back to {options}"
            )
            return
        with self.store.transaction():
            self.store.start_session(step, "rollback")
            self.store.forget_checkpoints_after(step)
            self.store.command(command, "applied", step)
            text = f"rolled back from step {self.done} to step {step}"
            self.store.event(step, "info", "rollback", text)
        self.desk.clear([command.id])
        checkpoints.remove_after(self.run.checkpoints, step)
        self._go_on_from(step)

    def _close(self, outcome: str) -> None:
        if outcome == "done":
            self._save()
            self.desk.close(self.done, f"the run ended at step {self.done}")
        with self.store.transaction():
            self.store.event(self.done, "info", outcome, f"{outcome} at step {self.done}")
            self.store.end_session("done" if outcome == "done" else "stopped")
        self._log(outcome)
        self.store.close()

    def _log(self, text: str) -> None:
        with self.run.log.open("a", encoding="utf-8") as log:
            log.write(f"{text} {HOSTILE}\n" if self._hostile else f"{text}\n")


def _about() -> dict[str, object]:
    return {"pid": os.getpid(), "host": socket.gethostname()}


def new_run(home: Path, stage: str, name: str, steps: int) -> RunDir:
    """A run of a small spec, with prompts that its data check can read."""
    home.mkdir(parents=True, exist_ok=True)
    table: dict[str, object] = {
        "stage": stage,
        "name": name,
        "policy": "builtin:tiny-llama",
        "checkpoints": {"every": max(50, steps // 20)},
        **SPECS[stage],
    }
    if stage == "ppo":
        table["ppo"] = {**dict(SPECS["ppo"]["ppo"]), "steps": steps}  # type: ignore[call-overload]
    run = create_run(home, parse_spec(table, "fake"))
    run.log.touch(mode=0o600)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])  # type: ignore[union-attr]
    parser.add_argument("folder", type=Path, help="home for a new run, or a run to go on with")
    parser.add_argument("--stage", default="ppo", choices=sorted(SPECS))
    parser.add_argument("--name", default="fake")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--begin", type=int, default=0, help="steps that are there at once")
    parser.add_argument("--speed", type=float, default=2.0, help="steps a second")
    parser.add_argument("--samples", type=float, default=8.0, help="samples a step, on average")
    parser.add_argument("--hostile", action="store_true", help="NaN, inf, escapes, endless lines")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    folder = given.folder.resolve()
    if (folder / "run.toml").exists():
        run = RunDir(folder)
    else:
        run = new_run(folder, given.stage, given.name, given.steps)
    print(run.id, flush=True)  # noqa: T201
    engine = FakeEngine(run, given.speed, given.samples, given.hostile, given.seed)
    engine.live(given.steps, given.begin)


if __name__ == "__main__":
    main()
