"""What other programs load of a run: written whole beside what was there, then in its place."""

import shutil
from pathlib import Path
from typing import Any

from rlhf_engine.job.spec import Spec
from rlhf_engine.progress import Reporter
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.reader import StoreReader
from rlhf_engine.runs.sample import ASKED
from rlhf_engine.runs.writer import StoreWriter
from rlhf_engine.stages.card import write_card
from rlhf_engine.stages.stage import Stage


def replace_output(
    run: RunDir, spec: Spec, store: StoreWriter, stage: Stage, report: Reporter
) -> None:
    """Write the output of a stage as it is now; nothing of it is left where that fails."""
    part = run.path / "output.tmp"
    shutil.rmtree(part, ignore_errors=True)
    try:
        facts = _fill(part, run, spec, stage, report)
        shutil.rmtree(run.output, ignore_errors=True)
        part.rename(run.output)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    for name, value in facts.items():
        store.set_fact(name, value)


def _fill(folder: Path, run: RunDir, spec: Spec, stage: Stage, report: Reporter) -> dict[str, Any]:
    folder.mkdir(mode=0o700)
    reader = StoreReader.open(run.store)
    assert reader is not None, "the engine's own store is open"
    with report.phase("write output"), reader:
        every = reader.samples(limit=10_000_000)[::-1]
        rows = [row for row in every if row.sample.kind != ASKED]
        facts = stage.finish(folder, rows)
        write_card(folder, run, spec, stage.base, reader.last_step())
    return facts
