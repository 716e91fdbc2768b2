"""`python -m rlhf_engine.check SPEC.toml ...`: look at model and data, start nothing.

Prints one JSON object a finding: {"level": "ok|warn|error", "stage": name, "what": text}; one
about data has "facts" too, the same in single lines, and "example", a row as the model sees it.
"""

import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlhf_engine.data import formats
from rlhf_engine.data.errors import DataError
from rlhf_engine.data.inspect import inspect
from rlhf_engine.data.sources import read_rows
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import parse_spec
from rlhf_engine.job.sections import Data
from rlhf_engine.job.spec import (
    CollectSpec,
    DpoSpec,
    EvaluateSpec,
    PpoSpec,
    RewardSpec,
    SftSpec,
    Spec,
)
from rlhf_engine.runs.directory import home_folder
from rlhf_engine.waiting import device_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# More of a row than this helps nobody who looks at one.
EXAMPLE_LENGTH = 20_000


@dataclass(frozen=True)
class Finding:
    """One thing looked at; of data also what is known of it line by line, and a rendered row."""

    level: Literal["ok", "warn", "error"]
    what: str
    facts: tuple[str, ...] = ()
    example: str = ""

    def record(self, stage: str) -> dict[str, Any]:
        told: dict[str, Any] = {"level": self.level, "stage": stage, "what": self.what}
        return told | ({"facts": self.facts, "example": self.example} if self.facts else {})


def check(spec: Spec, home: Path) -> Iterator[Finding]:
    """Findings about a spec's device, model, data and rewards; nothing is trained or written."""
    yield Finding("ok", f"device: {device_name(spec.device)}")
    for look in (_model, _data, _rewards):
        try:
            yield from look(spec, home)
        except (SpecError, DataError) as error:
            yield Finding("error", str(error))


def _later(source: str) -> bool:
    """Whether a source is made by an earlier stage of the same pipeline."""
    return source.startswith("stage:")


def _model(spec: Spec, home: Path) -> Iterator[Finding]:
    if _later(spec.policy):
        yield Finding("ok", f"policy: from {spec.policy}")
        return
    from transformers import AutoConfig

    from rlhf_engine.model.base import resolve_source, unloadable

    source = resolve_source(spec.policy, home, lambda text: print(text, file=sys.stderr))  # noqa: T201
    try:
        config = AutoConfig.from_pretrained(
            source.base,
            revision=spec.model.revision or "main",
            trust_remote_code=spec.model.trust_remote_code,
        )
    except (OSError, ValueError, ImportError) as error:
        raise SpecError(f"policy: {unloadable(spec.policy, error)}") from None
    adapter = f" with the adapter {source.adapter}" if source.adapter else ""
    yield Finding("ok", f"policy: {config.model_type} at {source.base}{adapter}")


def _data(spec: Spec, home: Path) -> Iterator[Finding]:
    readers = {
        SftSpec: formats.conversations,
        RewardSpec: formats.pairs,
        DpoSpec: formats.pairs,
    }
    yield from _rows(spec, spec.data, readers.get(type(spec), formats.prompts), home)
    if isinstance(spec, PpoSpec) and spec.ppo.ptx.data.path:
        yield from _rows(spec, spec.ppo.ptx.data, formats.conversations, home)


def _rows(spec: Spec, data: Data, read: Callable[..., Any], home: Path) -> Iterator[Finding]:
    if _later(data.path):
        yield Finding("ok", f"data: from {data.path}")
        return
    from rlhf_engine.stages.rows import data_path

    tokenizer = _tokenizer(spec, home)
    places = [(data.path, data.split)]
    if data.eval_path:
        places.append((data.eval_path, "train"))
    elif data.eval_split:
        places.append((data.path, data.eval_split))
    for place, split in places:
        path = data_path(place, home)
        rows = read_rows(path, split=split, subset=data.subset, limit=data.max_rows)
        _, report = read(rows, data.format, system=data.system, columns=data.columns)
        found = inspect(
            rows,
            data.format,
            tokenizer,
            data.max_tokens,
            max_prompt_tokens=data.max_prompt_tokens,
            system=data.system,
            columns=data.columns,
        )
        facts = tuple(found.lines())
        yield Finding(
            "warn" if report.dropped or found.truncated else "ok",
            f"data {place} ({split}): " + "; ".join(facts),
            facts,
            found.example[:EXAMPLE_LENGTH],
        )


def _tokenizer(spec: Spec, home: Path) -> "PreTrainedTokenizerBase | None":
    """The policy's tokenizer; None where an earlier stage of the pipeline will bring it, and where
    there is none: what is wrong with the policy is a finding of its own."""
    if _later(spec.policy):
        return None
    from transformers import AutoTokenizer

    from rlhf_engine.model.base import resolve_source

    try:
        source = resolve_source(spec.policy, home, lambda _: None)
        return AutoTokenizer.from_pretrained(
            source.adapter or source.base,
            revision=spec.model.revision or "main",
            trust_remote_code=spec.model.trust_remote_code,
        )
    except (SpecError, OSError, ValueError, ImportError):
        return None


def _rewards(spec: Spec, home: Path) -> Iterator[Finding]:
    if not isinstance(spec, CollectSpec | PpoSpec | EvaluateSpec):
        return
    from rlhf_engine.rewards import check_source

    for source in (spec.reward.score, *spec.reward.gold):
        if not _later(source):
            check_source(source, home)
        yield Finding("ok", f"reward: {source}")


def main() -> int:
    os.umask(0o077)
    home, failed = home_folder(), False
    for path in sys.argv[1:]:
        spec = parse_spec(tomllib.loads(Path(path).read_text(encoding="utf-8")), Path(path).name)
        for finding in check(spec, home):
            failed = failed or finding.level == "error"
            print(json.dumps(finding.record(spec.name)), flush=True)  # noqa: T201
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
