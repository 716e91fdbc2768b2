"""Setting up torch and the stage of a run, and handing both to the loop."""

import json

import torch
import transformers

from rlhf_engine.commands import Desk
from rlhf_engine.fitting import Sizes
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.spec import Spec
from rlhf_engine.loop import Loop
from rlhf_engine.memory import peak_memory
from rlhf_engine.optimizer import check_eight_bit
from rlhf_engine.progress import Reporter
from rlhf_engine.runs.checkpoints import Found
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.writer import Outcome, StoreWriter
from rlhf_engine.stages import collect, evaluate, ppo, reward, sft
from rlhf_engine.stages.stage import Stage, Workplace

STAGES = {
    "sft": sft.SftStage,
    "collect": collect.CollectStage,
    "reward": reward.RewardStage,
    "ppo": ppo.PpoStage,
    "evaluate": evaluate.EvaluateStage,
}


def work(
    run: RunDir, spec: Spec, store: StoreWriter, desk: Desk, found: Found, device: str
) -> Outcome:
    """Build the stage on the device and run it from the checkpoint that was found."""
    _prepare(spec, device)
    report = Reporter(store, desk.interrupts, peak_memory(device))
    sizes = Sizes(spec, store, report)
    place = Workplace(run.home, run.id, torch.device(device), report, sizes)

    def build() -> Stage:
        stage: Stage = STAGES[spec.stage](spec, place)
        store.set_fact("setup_memory", json.dumps(report.take_memory()))
        report.forget()
        return stage

    return Loop(run, spec, store, desk, report, sizes).run(build, found)


def _prepare(spec: Spec, device: str) -> None:
    """Thread counts, deterministic kernels and quiet libraries."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SpecError(f"device: {device} asked for, but torch sees no GPU; use device = cpu")
    optimizer = getattr(getattr(spec, spec.stage), "optimizer", None)
    if optimizer is not None:
        check_eight_bit(optimizer, device)
    if spec.threads:
        torch.set_num_threads(spec.threads)
    if device == "cpu":
        torch.use_deterministic_algorithms(True)
        # Every tensor here is written before it is read; filling new ones with NaN costs time.
        setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
