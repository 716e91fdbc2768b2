"""The one step boundary that every stage shares: commands in, knobs applied, record out."""

import gc
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence

from safetensors import SafetensorError

from rlhf_engine import checkpoint, questions
from rlhf_engine.checkpoint import State
from rlhf_engine.commands import Desk
from rlhf_engine.fitting import Sizes
from rlhf_engine.guards import Firing, Guards, knob_moves
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.spec import Spec
from rlhf_engine.output import replace_output
from rlhf_engine.progress import Interrupted, Reporter
from rlhf_engine.runs import checkpoints
from rlhf_engine.runs.checkpoints import Found
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.inbox import Command
from rlhf_engine.runs.writer import Outcome, StoreWriter
from rlhf_engine.seeding import seed_libraries
from rlhf_engine.stages.stage import Stage, StepRecord

POLL_SECONDS = 0.2


class Loop:
    """Runs a stage to its end, a stop, or a signal; it does not know what the stage computes."""

    _stage: Stage
    _build: Callable[[], Stage]

    def __init__(
        self,
        run: RunDir,
        spec: Spec,
        store: StoreWriter,
        desk: Desk,
        report: Reporter,
        sizes: Sizes,
    ) -> None:
        self._run = run
        self._spec = spec
        self._store = store
        self._desk = desk
        self._report = report
        self._sizes = sizes
        self._guards = Guards(spec, run.id)
        self._done = 0
        self._saved_at = 0
        self._save_due = False
        self._trouble = ""

    def run(self, build: Callable[[], Stage], found: Found) -> Outcome:
        """Do the steps after the checkpoint that was found; return how the run ended.

        `build` makes the stage as it is before its first step.
        """
        self._build = build
        self._stage = build()
        total = self._stage.total_steps
        self._store.set_fact("total_steps", str(total))
        if self._spec.fork and self._spec.fork.step >= total:
            raise SpecError(
                f"fork: starts after step {self._spec.fork.step}, and the run has {total} steps in "
                "all; fork again with more of them"
            )
        self._restore(found, checkpoint.load(found.folder) if found.folder else None)
        if found.folder is not None:
            size = checkpoints.size_of(found.folder)
            self._store.checkpoint(found.step, str(found.folder), size)
        while True:
            self._between_steps()
            if not self._desk.stop_asked and self._done < total:
                self._try_step()
            elif self._write_output():
                return self._end()
            elif self._desk.stop_asked:
                return "stopped"

    def _restore(self, found: Found, state: State | None) -> None:
        """Put the stage and the knobs where they were after a step."""
        if state is not None:
            self._stage.load_state(State(state.tensors, state.values["stage"]))
        self._guards.load(state.values.get("guards", []) if state else [])
        self._done = self._saved_at = found.step
        self._sizes.begin(found.step + 1)
        if found.step == self._spec.begins_after:
            self._desk.start(found.step, None)
        elif state is not None:
            values = state.values
            self._desk.start(
                found.step, values["knobs"], values.get("moves"), values.get("guarded")
            )
        else:
            self._desk.start(found.step, self._knobs_of(found.step))

    def _knobs_of(self, step: int) -> dict[str, float]:
        rows = self._store.query(
            "SELECT knobs FROM steps WHERE step = ? ORDER BY seq DESC LIMIT 1", step
        )
        knobs: dict[str, float] = json.loads(rows[0][0])
        return knobs

    def _between_steps(self) -> None:
        """Take up what waits, save what is due, and rest as long as the run is paused."""
        told = shown = ""
        while True:
            paused = self._desk.paused
            self._desk.open_step(self._done + 1)
            with self._sizes.apart():
                if questions.answer_all(self._stage, self._desk, self._report, self._done):
                    shown = ""
            if command := self._desk.rollback_asked:
                self._desk.rollback_asked = None
                self._roll_back(command)
                shown = ""
                continue
            if self._desk.checkpoint_asked or (self._save_due and not self._desk.paused):
                self._desk.checkpoint_asked = False
                self._save()
                shown = ""
            if self._desk.stop_asked:
                self._save()
                return
            if not self._desk.paused:
                if not paused:
                    return
                self._trouble = ""
                continue
            why = self._trouble or f"paused after step {self._done}"
            if why != told and not self._trouble:
                self._store.event(self._done, "info", "pause", why)
            if why != shown:
                self._store.progress("paused", why, text=why)
            told = shown = why
            time.sleep(POLL_SECONDS)

    def _try_step(self) -> None:
        step = self._done + 1
        start = time.perf_counter()
        knobs = dict(self._desk.knobs)

        def attempt() -> StepRecord:
            seed_libraries(self._spec.seed, step)
            self._report.forget()
            return self._stage.step(step, knobs)

        try:
            with self._report.interruptible():
                record = self._sizes.fit_step(step, attempt)
        except Interrupted:
            self._report.forget()
            return
        seconds = time.perf_counter() - start
        last = step == self._stage.total_steps
        ahead = {**knobs, **record.next_knobs}
        firings = self._guards.judge(step, record.metrics, knobs, ahead, last)
        self._commit(step, record, knobs, seconds, firings)
        self._desk.steer(record.next_knobs, knob_moves(firings))
        self._done = step
        self._save_due = last or step % self._spec.checkpoints.every == 0
        self._obey(firings)

    def _commit(
        self,
        step: int,
        record: StepRecord,
        knobs: Mapping[str, float],
        seconds: float,
        firings: Sequence[Firing],
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
            for firing in firings:
                see = f"; see workbench samples {self._run.id} --step {step}"
                text = firing.text + (see if record.samples else "")
                self._store.event(step, "warn", "guard", text, firing.data)
            taken = self._desk.commit(step)
        self._desk.clear(taken)

    def _obey(self, firings: Sequence[Firing]) -> None:
        """Roll back or pause for guards; a run that was asked to stop goes on with that."""
        for firing in firings:
            if not firing.acts or self._desk.stop_asked:
                continue
            if firing.guard.action == "rollback":
                self._roll_back_before(firing)
                return
            # Who resumes a run that has died in such a pause wants it to go on.
            if firing.guard.action == "pause" and not self._desk.is_redone(self._done):
                self._desk.paused = True
                self._trouble = f"paused after step {self._done}: {firing.text}"

    def _roll_back_before(self, firing: Firing) -> None:
        """Go back to before the steps that a guard disliked, or stay there; and pause."""
        newest = checkpoints.newest_sound(self._run.checkpoints, firing.steps[0] - 1)
        try:
            found, state = self._earlier(newest.step)
            self._turn_back(found, state, " by a guard")
            why = f"rolled back to step {found.step}: {firing.condition}; change something first"
        except SpecError as reason:
            why = f"not rolled back: {reason}: {firing.condition}"
        self._desk.paused, self._trouble = True, why

    def _roll_back(self, command: Command) -> None:
        """Go back to the step that a person chose, or say why not."""
        try:
            found, state = self._earlier(command.body.get("step"))
        except SpecError as reason:
            self._desk.refuse(command, self._done, str(reason))
            return
        self._turn_back(found, state, f" by {command.client}" if command.client else "", command)

    def _turn_back(
        self, found: Found, state: State | None, who: str, command: Command | None = None
    ) -> None:
        """Go back to an earlier step; what came after it becomes history.

        The store turns first, in one transaction; whatever is left of the later checkpoints when
        the engine dies there is removed by its next life.
        """
        with self._store.transaction():
            self._store.start_session(found.step, "rollback")
            self._store.forget_checkpoints_after(found.step)
            if command:
                self._store.command(command, "applied", found.step)
            text = f"rolled back{who} from step {self._done} to step {found.step}"
            self._store.event(found.step, "info", "rollback", text)
        if command:
            self._desk.clear([command.id])
        checkpoints.remove_after(self._run.checkpoints, found.step)
        if state is None and self._stage.state() is not None:
            # Gone before it is built anew: two of them may not fit.
            del self._stage
            gc.collect()
            self._stage = self._build()
        self._restore(found, state)
        self._save_due, self._trouble = False, ""

    def _earlier(self, step: object) -> tuple[Found, State | None]:
        """The state after an earlier step; None for the start, which is built anew.

        Raises SpecError with the steps that there are.
        """
        first = self._spec.begins_after
        if self._stage.state() is None:
            known = list(range(self._done + 1))
        else:
            kept = {saved for saved, _ in checkpoints.saved(self._run.checkpoints)}
            known = sorted(kept if first else kept | {0})
        options = f"it can go back to {', '.join(map(str, known))}"
        if isinstance(step, bool) or not isinstance(step, int):
            raise SpecError(f"{step!r} is no step; {options}")
        if step not in known:
            raise SpecError(f"there is no checkpoint of step {step}; {options}")
        folder = checkpoints.folder_of(self._run.checkpoints, step)
        if not folder.is_dir():
            return Found(step, None), None
        if fault := checkpoints.fault(folder):
            rest = ", ".join(str(other) for other in known if other != step) or "no step"
            raise SpecError(f"checkpoint {folder.name}: {fault}; it can go back to {rest}")
        return Found(step, folder), checkpoint.load(folder)

    def _save(self) -> None:
        """Write a checkpoint of the last step unless there is one; pause if that cannot be done."""
        self._save_due = False
        state = self._stage.state()
        if state is not None and self._done not in (0, self._saved_at):
            what = f"the checkpoint of step {self._done}"
            self._save_due = not self._written(what, lambda: self._write_checkpoint(state))

    def _write_checkpoint(self, state: State) -> None:
        keep, spare = self._spec.checkpoints.keep, self._spec.begins_after
        with self._report.phase("save checkpoint"):
            values = {"stage": state.values, **self._desk.state(), "guards": self._guards.state()}
            size = checkpoint.save(self._run.checkpoints, self._done, State(state.tensors, values))
            gone = checkpoints.prune(self._run.checkpoints, keep, spare)
        self._report.forget()
        folder = checkpoints.folder_of(self._run.checkpoints, self._done)
        with self._store.transaction():
            self._store.checkpoint(self._done, str(folder), size)
            for old in gone:
                self._store.forget_checkpoint(old)
        self._saved_at = self._done

    def _written(self, what: str, write: Callable[[], None]) -> bool:
        """Write files; where the disk does not take them, say so and pause the run.

        A run that was asked to stop goes on with that instead: its earlier checkpoints are sound.
        """
        try:
            write()
        except (OSError, SafetensorError) as fault:
            if isinstance(fault, OSError) and fault.errno is None:
                raise
            text = (
                f"{what} could not be written in {self._run.path} ({_reason(fault)}): free some "
                f"space or put that right, then: workbench resume {self._run.id}"
            )
            self._store.event(self._done, "error", "disk", text)
            if not self._desk.stop_asked:
                self._desk.paused, self._trouble = True, text
            return False
        return True

    def _write_output(self) -> bool:
        """Write what other programs load; nothing before the first step."""
        return self._done == 0 or self._written("the output", self._put_output)

    def _put_output(self) -> None:
        replace_output(self._run, self._spec, self._store, self._stage, self._report)

    def _end(self) -> Outcome:
        if self._done < self._stage.total_steps:
            return "stopped"
        self._desk.close(self._done, f"the run ended at step {self._done}")
        return "done"


def _reason(fault: Exception) -> str:
    """`No space left on device`, whoever says it."""
    text = fault.strerror if isinstance(fault, OSError) else str(fault).rpartition("error: ")[2]
    return str(text or fault)
