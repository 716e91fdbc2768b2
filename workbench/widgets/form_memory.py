"""The memory that a form's stages will take, by part, against what is free now."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual import on
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import Preset
from rlhf_engine.runs.directory import RunNotFound
from rlhf_engine.runs.sample import printable
from workbench.commands.text import GIB, gib, grid
from workbench.doctor import free_memory
from workbench.engine_talk import EngineFailed, answers
from workbench.estimates import StageMemory, basis, misfit, stage_memory
from workbench.screens.seen import is_seen

# So long after the last key the engine is asked for a model's numbers.
PATIENCE_SECONDS = 0.7
FREE_SECONDS = 5.0
LABEL, BAR = 15, 10
Told = Sequence[Mapping[str, Any]]


class MemoryPane(Static):
    """Estimates each stage of what it is shown, and reads what is free again and again."""

    DEFAULT_CSS = "MemoryPane { height: auto; }"

    class Changed(Message):
        """There is another estimate, or another amount is free."""

    @dataclass
    class _Told(Message):
        basis: str
        told: Told
        problem: str = ""

    @dataclass
    class _Heard(Message):
        text: str

    @dataclass
    class _Free(Message):
        free: dict[str, int]

    def __init__(self, home: Path) -> None:
        super().__init__(id="memory")
        self._home = home
        self._preset: Preset | None = None
        self._place = 0
        self._basis = ""
        self._numbers: dict[str, Told] = {}
        self._problem = ""
        self._heard = ""
        self._waiting: Timer | None = None
        self.stages: list[StageMemory] = []
        self.free: dict[str, int] = {}

    def on_mount(self) -> None:
        self.set_interval(FREE_SECONDS, self._read_free)

    def watch_preset(self, preset: Preset | None, place: int) -> None:
        """Estimate this preset, and show one of its stages; None is a form with problems."""
        self._preset, self._place = preset, place
        wanted = basis(preset) if preset else ""
        if wanted != self._basis:
            self._forget()
            self._basis = wanted
            known = self._numbers.get(wanted, ())
            if preset and len(known) < len(preset.stages):
                self._waiting = self.set_timer(PATIENCE_SECONDS, self._ask)
        self._renew()

    def again(self) -> None:
        """Ask the engine once more where it had no answer, such as for a model not found."""
        if self._preset and (self._problem or any(stage.problem for stage in self.stages)):
            self._forget()
            self._numbers.pop(self._basis, None)
            self._ask()
            self._renew()

    def _forget(self) -> None:
        if self._waiting:
            self._waiting.stop()
        self.workers.cancel_node(self)
        self._problem = self._heard = ""

    def _ask(self) -> None:
        if self._preset:
            self.run_worker(self._estimate(self._preset, self._basis), group="memory")

    async def _estimate(self, preset: Preset, basis: str) -> None:
        def hear(text: str) -> None:
            self.post_message(self._Heard(text))

        told: list[Mapping[str, Any]] = []
        try:
            async with aclosing(
                answers("rlhf_engine.estimate", self._home, preset, hear)
            ) as stream:
                async for answer in stream:
                    told.append(answer)
                    self.post_message(self._Told(basis, tuple(told)))
        except (EngineFailed, SpecError, RunNotFound, OSError) as error:
            problem = str(error) or "the engine could not be asked: see workbench doctor"
            self.post_message(self._Told(basis, tuple(told), problem))

    @on(_Told)
    def _on_told(self, message: _Told) -> None:
        message.stop()
        self._numbers[message.basis] = message.told
        if message.basis == self._basis:
            self._problem = message.problem
        self._renew()
        self._read_free()

    @on(_Heard)
    def _on_heard(self, message: _Heard) -> None:
        message.stop()
        # Libraries warn of much that is no news here.
        if "warn" not in message.text.lower():
            self._heard = message.text
            self._show()

    def _read_free(self) -> None:
        devices = {stage.device for stage in self.stages if stage.device}
        if devices and is_seen(self.screen):
            self.run_worker(lambda: self._tell_free(devices), thread=True, group="free")

    def _tell_free(self, devices: set[str]) -> None:
        free = {}
        for device in devices:
            try:
                free[device] = free_memory(device)
            except Exception:  # NVML has many ways to fail; then nothing is known
                continue
        self.post_message(self._Free(free))

    @on(_Free)
    def _on_free(self, message: _Free) -> None:
        message.stop()
        self.free = message.free
        self._renew()

    def _renew(self) -> None:
        """Work the stages out from the numbers that are known, and show them."""
        told = self._numbers.get(self._basis, ())
        self.stages = stage_memory(self._preset, told) if self._preset else []
        self._show()
        self.post_message(self.Changed())

    # What follows from it

    def refusals(self) -> list[str]:
        """Why a stage cannot start at all."""
        return [f"{stage.spec.name}: {stage.problem}" for stage in self.stages if stage.problem]

    def misfits(self) -> list[str]:
        """Why stages do not fit into what is free, and what would help."""
        return [misfit(stage, self.free) for stage in self.stages if stage.lacks(self.free)]

    def brief(self) -> str:
        """The stage that is shown in half a line."""
        stage = self._stage
        if stage is None:
            return self._status()
        if stage.found is None:
            return f"memory: {stage.problem}"
        room = self.free.get(stage.device)
        known = "" if room is None else f" of {gib(room)} free"
        verdict = "does not fit" if stage.lacks(self.free) else "fits" if known else ""
        return f"memory {gib(stage.found.peak.bytes)}{known} {verdict}".rstrip()

    @property
    def _stage(self) -> StageMemory | None:
        return self.stages[self._place] if self._place < len(self.stages) else None

    def _status(self) -> str:
        if self._preset is None:
            return "memory: known once the form is valid"
        if self._problem:
            return f"memory: no estimate: {self._problem}; v tries again"
        return f"memory: reading the model… {self._heard}".rstrip()

    def _show(self) -> None:
        stage = self._stage
        if stage is None:
            text = Content.styled(printable(self._status().removeprefix("memory: ")), "$text-muted")
        elif stage.found is None:
            text = Content.styled(f"! {printable(stage.problem)}; v tries again", "$error")
        else:
            text = self._bars(stage)
        self.update(text)

    def _bars(self, stage: StageMemory) -> Content:
        found, room = stage.found, self.free.get(stage.device)
        assert found is not None, "only an estimate has parts"
        peak = found.peak
        lacks = stage.lacks(self.free)
        word = ("does not fit", "$error bold") if lacks else ("fits", "$success bold")
        lines: list[Content | tuple[str, str]] = [
            Content(f"peak {gib(peak.bytes)} in {peak.name}\n"),
            Content(f"free {gib(room) if room is not None else 'unknown'} on {stage.device} now  "),
            word if room is not None else Content(""),
        ]
        if room is not None:
            lines.append(Content(f"\n{_bar(peak.bytes / max(1, room), LABEL + BAR + 6)}"))
        largest = max(peak.parts.values(), default=1)
        for part, size in sorted(peak.parts.items(), key=lambda item: -item[1]):
            bar = _bar(size / largest, BAR)
            lines.append(Content(f"\n{part[:LABEL]:<{LABEL}}{bar} {_short(size):>9}"))
        others = [other.spec.name for other in self.stages if other.lacks(self.free)]
        if others and len(self.stages) > 1:
            lines.append((f"\n! does not fit: {', '.join(others)}", "$error"))
        if lacks:
            lines.append(("\ncheapest changes:", "$warning"))
            lines += [
                Content(f"\n{saving.setting}\n  {saving.price}, saves {gib(saving.bytes)}")
                for saving in stage.remedies()
            ]
        return Content.assemble(*lines)

    def report(self) -> str:
        """Every stage by phase and part, for a page of its own."""
        if not self.stages:
            return self._status()
        return "\n\n".join(self._report(stage) for stage in self.stages)

    def _report(self, stage: StageMemory) -> str:
        found = stage.found
        if found is None:
            return f"{stage.spec.name}: {stage.problem}"
        parts = list(dict.fromkeys(part for phase in found.phases for part in phase.parts))
        rows = [
            [part, *(_short(p.parts[part]) if part in p.parts else "–" for p in found.phases)]
            for part in parts
        ]
        rows.append(["total", *(_short(phase.bytes) for phase in found.phases)])
        table = grid(["", *(phase.name for phase in found.phases)], rows)
        room = self.free.get(stage.device)
        free = "unknown" if room is None else gib(room)
        head = f"{stage.spec.name}: peak {gib(found.peak.bytes)} in {found.peak.name}; {free} free"
        lines = [f"{head} on {stage.device} now", *(f"  {line}" for line in table)]
        return "\n".join([*lines, *([misfit(stage, self.free)] if stage.lacks(self.free) else [])])


def _bar(share: float, width: int) -> str:
    """A bar as long as the share of its width, full where the share is more than all."""
    count = min(width, max(1, round(share * width)))
    return "█" * count + "░" * (width - count)


def _short(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB / 10 else f"{size / 2**20:.0f} MiB"
