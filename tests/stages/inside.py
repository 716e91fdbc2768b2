"""Whole runs inside the test's own process, so that a test can make single calls fail."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.generation.continuous_batching.cache import PagedAttentionCache

from rlhf_engine import __main__ as engine
from rlhf_engine.job.presets import load_preset
from rlhf_engine.model.roles import Roles
from rlhf_engine.rollout import CachedRollout
from rlhf_engine.runs.directory import RunDir, create_run
from rlhf_engine.runs.launch import ready
from rlhf_engine.runs.lock import Lock
from rlhf_engine.runs.reader import StoreReader


class Inside:
    """A home whose engines run here, one after the other."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(exist_ok=True)

    def run(self, preset: Path | str, *overrides: str) -> RunDir:
        spec = ready(self.home, load_preset(str(preset), list(overrides)))[0]
        run = create_run(self.home, spec)
        self.go_on(run)
        return run

    def go_on(self, run: RunDir) -> None:
        """One session of a run, with everything put back that an engine sets in its process."""
        before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
        mask = os.umask(0o077)
        locks: list[Lock] = []
        take = Lock.__init__

        def taken(lock: Lock, *args: Any) -> None:
            take(lock, *args)
            locks.append(lock)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Lock, "__init__", taken)
            patch.setattr(sys, "argv", ["rlhf_engine", str(run.path)])
            patch.setattr(engine, "_listen", lambda _: None)
            patch.setattr(engine.setproctitle, "setproctitle", lambda _: None)
            try:
                engine.main()
            finally:
                for lock in locks:
                    lock.release()
                os.umask(mask)
                torch.use_deterministic_algorithms(before[0])
                torch.set_num_threads(before[1])

    @contextmanager
    def _reader(self, run: RunDir) -> Iterator[StoreReader]:
        reader = StoreReader.open(run.store)
        assert reader is not None
        with reader:
            yield reader

    def figures(self, run: RunDir) -> list[dict[str, float]]:
        """Metrics of every step without clocks."""
        with self._reader(run) as reader:
            rows = reader.steps()
        return [row.repeatable() for row in rows]

    def warnings(self, run: RunDir) -> list[str]:
        with self._reader(run) as reader:
            return [event.text for event in reader.events() if event.level == "warn"]

    def weights(self, run: RunDir) -> dict[str, Tensor]:
        return load_file(run.output / "adapter_model.safetensors")


Chosen = Callable[[str, Tensor], bool]


@contextmanager
def failing_pass(fault: Exception, chosen: Chosen, skip: int, times: int = 1) -> Iterator[None]:
    """Let the base's forward pass fail: the chosen ones, by role and ids, after `skip` of them."""
    plain, count = Roles.hidden, 0

    def hidden(self: Roles, role: str, ids: Tensor) -> Tensor:
        nonlocal count
        if chosen(role, ids):
            count += 1
            if skip < count <= skip + times:
                raise fault
        return plain(self, role, ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Roles, "hidden", hidden)
        yield
    assert count > skip, "the pass that was to fail came"


@contextmanager
def failing_generation(fault: Exception, skip: int) -> Iterator[None]:
    """Let one batch fail while responses are sampled."""
    plain, count = CachedRollout._batch, 0

    def batch(self: CachedRollout, *args: Any) -> Any:
        nonlocal count
        count += 1
        if count == skip + 1:
            raise fault
        return plain(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CachedRollout, "_batch", batch)
        yield
    assert count > skip, "the batch that was to fail came"


@contextmanager
def failing_paged_cache(skip: int, times: int = 1) -> Iterator[None]:
    """Let the cache of continuous batching find too little memory."""
    plain, count = PagedAttentionCache.__init__, 0

    def make(self: PagedAttentionCache, *args: Any, **kwargs: Any) -> None:
        nonlocal count
        count += 1
        if skip < count <= skip + times:
            raise MemoryError("more than available memory")
        plain(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PagedAttentionCache, "__init__", make)
        yield
    assert count > skip, "the cache that was to fail was made"
