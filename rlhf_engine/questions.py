"""What people ask between two steps: an answer to their prompt, held-out figures of this moment.

Nothing here changes what the run trains on or with.
"""

from rlhf_engine.commands import Desk
from rlhf_engine.data.errors import DataError
from rlhf_engine.fitting import out_of_memory
from rlhf_engine.job.errors import SpecError
from rlhf_engine.progress import Reporter
from rlhf_engine.runs.inbox import Command
from rlhf_engine.stages.stage import Stage

NO_HELD_OUT = (
    "this run holds no data out; a new run does with data.eval_rows, data.eval_path or "
    "data.eval_split"
)
NOTHING_TRAINED = "a {stage} run trains nothing, so there is nothing to measure on held-out data"


def answer_all(stage: Stage, desk: Desk, report: Reporter, done: int) -> bool:
    """Answer what was asked after the step `done`; whether there was anything."""
    asked, desk.questions = desk.questions, []
    for command in asked:
        try:
            if command.kind == "sample":
                _sample(command, stage, desk, done)
            else:
                _evaluate(command, stage, desk, done)
        except (SpecError, DataError) as reason:
            desk.refuse(command, done, str(reason))
        except Exception as fault:
            if not out_of_memory(fault):
                raise
            desk.refuse(command, done, "the device has no memory left for it; try a shorter prompt")
        report.forget()
    return bool(asked)


def _sample(command: Command, stage: Stage, desk: Desk, done: int) -> None:
    prompt = command.body.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise SpecError("there is no prompt; type a question or an instruction")
    samples = stage.ask(prompt, command.id, desk.ran)
    note = f"answered by the policy after step {done}"
    desk.answer(command, done, note, lambda: desk.store.samples(done, samples))


def _evaluate(command: Command, stage: Stage, desk: Desk, done: int) -> None:
    if not stage.held_out:
        idle = desk.spec.stage in ("collect", "evaluate")
        raise SpecError(NOTHING_TRAINED.format(stage=desk.spec.stage) if idle else NO_HELD_OUT)
    record = stage.evaluate(desk.ran)

    def write() -> None:
        desk.store.measured(done, record.metrics, command.id)
        desk.store.samples(done, record.samples)

    figures = ", ".join(f"{name} {value:.4g}" for name, value in record.metrics.items())
    desk.answer(command, done, f"after step {done}: {figures}", write)
