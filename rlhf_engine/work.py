"""Setting up torch and the stage of a run, and handing both to the loop."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers

from rlhf_engine import crew
from rlhf_engine.commands import Desk
from rlhf_engine.fitting import Sizes
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.spec import Spec
from rlhf_engine.loop import Loop
from rlhf_engine.memory import peak_memory
from rlhf_engine.optimizer import check_eight_bit
from rlhf_engine.progress import Reporter
from rlhf_engine.ranks import join
from rlhf_engine.runs.checkpoints import Found
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.writer import Outcome, StoreWriter
from rlhf_engine.stages import collect, dpo, evaluate, ppo, reward, sft
from rlhf_engine.stages.stage import Stage, Workplace
from rlhf_engine.waiting import hold_device

STAGES = {
    "sft": sft.SftStage,
    "collect": collect.CollectStage,
    "reward": reward.RewardStage,
    "ppo": ppo.PpoStage,
    "dpo": dpo.DpoStage,
    "evaluate": evaluate.EvaluateStage,
}


def work(
    run: RunDir, spec: Spec, store: StoreWriter, desk: Desk, found: Found, device: str
) -> Outcome:
    """Build the stage on the device and run it from the checkpoint that was found."""
    _prepare(spec, device)
    ranks = join()
    ranks.tell(device)
    # Processes that work in step can pause and stop at step boundaries only.
    interrupts = desk.interrupts if ranks.size == 1 else lambda: False
    report = Reporter(store, interrupts, peak_memory(device))
    sizes = Sizes(spec, store, report, ranks)
    place = Workplace(run.home, run.id, torch.device(device), report, sizes, ranks)
    build = _builder(spec, place, store)
    loop = Loop(run, spec, store, desk, report, sizes)
    if ranks.size == 1:
        return loop.run(build, found)
    outcome = loop.run(lambda: crew.Led(build, ranks, sizes), found)
    crew.dismiss(ranks)
    return outcome


def assist(run: RunDir, spec: Spec, device: str) -> None:
    """Work on a run that another process leads; this one writes nothing into its store."""
    ranks = join()
    # The first process has its device by now, so that runs never wait for each other in a ring.
    held = hold_device(run, device) if ranks.tell(None) != device else None
    _prepare(spec, device)
    with TemporaryDirectory() as folder:
        store = StoreWriter(Path(folder) / "run.db")
        report = Reporter(store, lambda: False, peak_memory(device))
        sizes = Sizes(spec, store, report, ranks)
        place = Workplace(run.home, run.id, torch.device(device), report, sizes, ranks)
        crew.follow(_builder(spec, place, store), ranks, sizes, spec.seed)
        store.close()
    if held:
        held.release()


def _builder(spec: Spec, place: Workplace, store: StoreWriter) -> Callable[[], Stage]:
    def build() -> Stage:
        stage: Stage = STAGES[spec.stage](spec, place)
        store.set_fact("setup_memory", json.dumps(place.report.take_memory()))
        place.report.forget()
        return stage

    return build


def _prepare(spec: Spec, device: str) -> None:
    """Thread counts, deterministic kernels and quiet libraries."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SpecError(f"device: {device} asked for, but torch sees no GPU; use device = cpu")
    optimizer = getattr(getattr(spec, spec.stage), "optimizer", None)
    if optimizer is not None:
        check_eight_bit(optimizer, device)
    if device.startswith("cuda"):
        # Memory is measured from the first phase on, which torch refuses on a device that nothing
        # has used yet; and libraries launch their kernels on the current one.
        torch.cuda.init()
        torch.cuda.set_device(device)
    if spec.threads:
        torch.set_num_threads(spec.threads)
    if device == "cpu":
        torch.use_deterministic_algorithms(True)
        # Every tensor here is written before it is read; filling new ones with NaN costs time.
        setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
