"""The one step boundary that every stage shares: commands in, knobs applied, record out."""

import json
import math
import shutil
import time
from collections.abc import Mapping
from typing import Any

from rlhf_engine import checkpoint
from rlhf_engine.checkpoint import Found
from rlhf_engine.commands import Desk
from rlhf_engine.job.spec import Spec
from rlhf_engine.progress import Interrupted, Reporter
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.writer import Outcome, StoreWriter
from rlhf_engine.seeding import seed_libraries
from rlhf_engine.stages.card import write_card
from rlhf_engine.stages.stage import Stage, StepRecord

POLL_SECONDS = 0.2


class Loop:
    """Runs a stage to its end, a stop, or a signal; it does not know what the stage computes."""

    def __init__(
        self, run: RunDir, spec: Spec, store: StoreWriter, desk: Desk, report: Reporter
    ) -> None:
        self._run = run
        self._spec = spec
        self._store = store
        self._desk = desk
        self._report = report
        self._saved_at = 0

    def run(self, stage: Stage, found: Found) -> Outcome:
        """Do the steps after the checkpoint that was found; return how the run ended."""
        self._store.set_fact("total_steps", str(stage.total_steps))
        self._restore(stage, found)
        step = found.step + 1
        while step <= stage.total_steps:
            self._desk.open_step(step)
            self._save_if_asked(stage, step - 1)
            self._wait_while_paused(stage, step)
            if self._desk.stop_asked:
                break
            try:
                self._step(stage, step)
            except Interrupted:
                self._report.forget()
                continue
            if step % self._spec.checkpoints.every == 0:
                self._save(stage, step)
            step += 1
        return self._end(stage, step - 1)

    def _restore(self, stage: Stage, found: Found) -> None:
        self._saved_at = found.step
        if found.folder is None:
            self._desk.start(found.step, self._knobs_of(found.step))
            return
        state = checkpoint.load(found.folder)
        stage.load_state(checkpoint.State(state.tensors, state.values["stage"]))
        self._desk.start(found.step, state.values["knobs"])
        size = sum(path.stat().st_size for path in found.folder.iterdir())
        self._store.checkpoint(found.step, str(found.folder), size)

    def _knobs_of(self, step: int) -> dict[str, float] | None:
        rows = self._store.query(
            "SELECT knobs FROM steps WHERE step = ? ORDER BY seq DESC LIMIT 1", step
        )
        return json.loads(rows[0][0]) if rows else None

    def _step(self, stage: Stage, step: int) -> None:
        seed_libraries(self._spec.seed, step)
        start = time.perf_counter()
        knobs = dict(self._desk.knobs)
        with self._report.interruptible():
            record = stage.step(step, knobs)
        seconds = time.perf_counter() - start
        self._commit(step, record, knobs, seconds)
        self._desk.steer(record.next_knobs)

    def _commit(
        self, step: int, record: StepRecord, knobs: Mapping[str, float], seconds: float
    ) -> None:
        metrics = {**record.metrics, "seconds": seconds}
        strange = [name for name, value in metrics.items() if not math.isfinite(value)]
        with self._store.transaction():
            phases, memory = self._report.take_seconds(), self._report.take_memory()
            self._store.step(step, metrics, knobs, phases, memory)
            self._store.samples(step, record.samples)
            for warning in record.warnings:
                self._store.event(step, "warn", warning.kind, warning.text)
            if strange:
                text = f"not a finite number: {', '.join(strange)}"
                self._store.event(step, "warn", "metrics", text)
            taken = self._desk.commit(step)
        self._desk.clear(taken)

    def _wait_while_paused(self, stage: Stage, step: int) -> None:
        if self._desk.paused:
            self._store.event(step - 1, "info", "pause", f"paused after step {step - 1}")
            self._store.progress("paused", f"paused after step {step - 1}")
        while self._desk.paused and not self._desk.stop_asked:
            time.sleep(POLL_SECONDS)
            self._desk.open_step(step)
            self._save_if_asked(stage, step - 1)
        self._desk.open_step(step)

    def _save_if_asked(self, stage: Stage, step: int) -> None:
        if self._desk.checkpoint_asked:
            self._desk.checkpoint_asked = False
            self._save(stage, step)

    def _save(self, stage: Stage, step: int) -> None:
        state = stage.state()
        if state is None or step == 0 or step == self._saved_at:
            return
        with self._report.phase("save checkpoint"):
            values = {"stage": state.values, "knobs": self._desk.knobs}
            folder = checkpoint.folder_of(self._run.checkpoints, step)
            size = checkpoint.save(
                self._run.checkpoints, step, checkpoint.State(state.tensors, values)
            )
            gone = checkpoint.prune(self._run.checkpoints, self._spec.checkpoints.keep)
        self._report.forget()
        with self._store.transaction():
            self._store.checkpoint(step, str(folder), size)
            for old in gone:
                self._store.forget_checkpoint(old)
        self._saved_at = step

    def _end(self, stage: Stage, step: int) -> Outcome:
        self._save(stage, step)
        finished = step >= stage.total_steps
        if finished or step > 0:
            self._write_output(stage)
        if finished:
            self._desk.close(step, f"the run ended at step {step}")
        return "done" if finished else "stopped"

    def _write_output(self, stage: Stage) -> None:
        part = self._run.path / "output.tmp"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        reader = StoreReader.open(self._run.store)
        assert reader is not None, "the engine's own store is open"
        with self._report.phase("write output"), reader:
            rows = reader.samples(limit=10_000_000)[::-1]
            facts: dict[str, Any] = stage.finish(part, rows)
            write_card(part, self._run, self._spec, stage.base, reader.last_step())
        shutil.rmtree(self._run.output, ignore_errors=True)
        part.rename(self._run.output)
        for name, value in facts.items():
            self._store.set_fact(name, value)
