"""`python -m rlhf_engine.export RUN_DIR DIR [--merge]`: a run's output for other programs."""

import argparse
import os
import shutil
import sys
from pathlib import Path

from rlhf_engine.job.errors import SpecError
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.state import run_state


def export(run: RunDir, target: Path, merge: bool) -> None:
    """Copy the output of a run to `target`, or write merged full-precision weights there.

    Raises SpecError if the run has no output, the target is not empty, or there is nothing to
    merge.
    """
    if not run.output.is_dir():
        state = run_state(run)
        raise SpecError(f"{run.id} has no output yet ({state.word}); wait until it is done")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SpecError(f"{target} is not an empty folder; give another one")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        if merge:
            _write_merged(run, part)
        else:
            shutil.copytree(run.output, part)
        if target.exists():
            target.rmdir()
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_merged(run: RunDir, folder: Path) -> None:
    """Load the base unquantized, add the adapter in fp32, save in the base's own format."""
    if not (run.output / "adapter_config.json").is_file():
        raise SpecError(f"{run.id} has no adapter to merge; export it without --merge")
    import torch
    from peft import PeftConfig, PeftModel
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    config = PeftConfig.from_pretrained(str(run.output))
    base = str(config.base_model_name_or_path)
    dtype = AutoConfig.from_pretrained(base).dtype or torch.bfloat16
    tokenizer = AutoTokenizer.from_pretrained(run.output)
    if config.task_type == "SEQ_CLS":
        model = AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=1, dtype=torch.float32
        )
        model.config.pad_token_id = tokenizer.pad_token_id
    else:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(run.output)).merge_and_unload()
    merged.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.copy(run.output / "README.md", folder / "README.md")


def main() -> int:
    os.umask(0o077)
    parser = argparse.ArgumentParser(prog="rlhf_engine.export")
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--merge", action="store_true")
    given = parser.parse_args()
    try:
        export(RunDir(given.run.resolve()), given.folder.absolute(), given.merge)
    except (SpecError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    print(given.folder)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
