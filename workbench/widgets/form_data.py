"""A look at the model, data and rewards of a form before anything trains on them."""

from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual import on
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import Preset
from rlhf_engine.runs.directory import RunNotFound
from rlhf_engine.runs.sample import printable
from workbench.commands.text import clip
from workbench.engine_talk import EngineFailed, answers

STYLES = {"ok": "$success", "warn": "$warning", "error": "$error"}
EXAMPLE_LINES, EXAMPLE_WIDTH = 6, 30


class DataPane(Static):
    """Runs the engine's check when asked, and says what it found of each stage."""

    DEFAULT_CSS = "DataPane { height: auto; }"

    class Changed(Message):
        """A finding has come, or the findings are of another form."""

    @dataclass
    class _Found(Message):
        preset: Preset
        finding: dict[str, Any]

    @dataclass
    class _Ended(Message):
        preset: Preset
        problem: str = ""

    def __init__(self, home: Path) -> None:
        super().__init__(id="data")
        self._home = home
        self._preset: Preset | None = None
        self._stage = ""
        self._problem = ""
        self._outdated = False
        self.is_busy = False
        self.findings: list[dict[str, Any]] = []

    def check(self, preset: Preset) -> None:
        """Look at this preset now, and forget what was found before."""
        self._stop()
        self._preset, self.findings, self._problem = preset, [], ""
        self._outdated, self.is_busy = False, True
        self.run_worker(self._look(preset), group="data")
        self._show()

    def watch_preset(self, preset: Preset | None, stage: str) -> None:
        """Drop what was found once the form says something else."""
        self._stage = stage
        if self._preset is not None and preset != self._preset:
            self._stop()
            self._preset, self.findings, self._problem = None, [], ""
            self._outdated = True
        self._show()

    def _stop(self) -> None:
        self.workers.cancel_node(self)
        self.is_busy = False

    async def _look(self, preset: Preset) -> None:
        problem = ""
        try:
            async with aclosing(
                answers("rlhf_engine.check", self._home, preset, lambda _: None)
            ) as stream:
                async for finding in stream:
                    self.post_message(self._Found(preset, finding))
        except (EngineFailed, SpecError, RunNotFound, OSError) as error:
            problem = str(error) or "the engine could not be asked: see workbench doctor"
        self.post_message(self._Ended(preset, problem))

    @on(_Found)
    def _on_found(self, message: _Found) -> None:
        message.stop()
        if message.preset is self._preset:
            self.findings.append(message.finding)
            self._show()
            self.post_message(self.Changed())

    @on(_Ended)
    def _on_ended(self, message: _Ended) -> None:
        message.stop()
        if message.preset is self._preset:
            self.is_busy, self._problem = False, message.problem
            self._show()
            self.post_message(self.Changed())

    def refusals(self) -> list[str]:
        """What was found that no run gets past."""
        return [f"{f['stage']}: {f['what']}" for f in self.findings if f["level"] == "error"]

    def brief(self) -> str:
        """The check in half a line."""
        if self.is_busy:
            return "check: looking…"
        if self._problem:
            return f"check: {self._problem}"
        if self._preset is None:
            return "check: the form has changed, v" if self._outdated else "check: v"
        return f"check: {self._count('error', 'error')}, {self._count('warn', 'warning')}"

    def _count(self, level: str, noun: str) -> str:
        found = sum(finding["level"] == level for finding in self.findings)
        return f"{found} {noun}{'' if found == 1 else 's'}"

    def _show(self) -> None:
        if self._preset is None:
            words = "the form has changed: " if self._outdated else ""
            self.update(Content.styled(f"{words}v looks at model, data and rewards", "$text-muted"))
            return
        shown = [f for f in self.findings if f["level"] == "error" or f["stage"] == self._stage]
        parts: list[Content | tuple[str, str]] = []
        for finding in shown:
            parts += [_finding(finding, bool(finding["stage"] != self._stage)), Content("\n")]
        if self._problem:
            parts.append((f"the check ended: {printable(self._problem)}", "$error"))
        parts.append(("looking…" if self.is_busy else self.brief()[7:], "$text-muted"))
        self.update(Content.assemble(*parts))

    def report(self) -> str:
        """Everything that was found, with whole examples, for a page of its own."""
        if self._preset is None:
            return "no check yet: v looks at model, data and rewards"
        blocks = []
        for finding in self.findings:
            lines = [f"{finding['level']:<6}{finding['stage']}  {_head(finding)}"]
            lines += [f"      {fact}" for fact in finding.get("facts", [])]
            if example := finding.get("example"):
                lines += ["      a row as the model sees it:"]
                lines += [f"      │ {line}" for line in str(example).splitlines()]
            blocks.append("\n".join(lines))
        return "\n".join([*blocks, self.brief()])


def _head(finding: dict[str, Any]) -> str:
    """What was found; of data only which, since its facts follow in lines of their own."""
    facts = "; ".join(finding.get("facts", []))
    return str(finding["what"]).removesuffix(facts).removesuffix(": ")


def _finding(finding: dict[str, Any], of_other: bool) -> Content:
    level = str(finding["level"])
    stage = f"{finding['stage']}: " if of_other else ""
    parts: list[Content | tuple[str, str]] = [
        (f"{level:<6}", STYLES.get(level, "")),
        Content(printable(f"{stage}{_head(finding)}")),
    ]
    parts += [Content(f"\n  {printable(str(fact))}") for fact in finding.get("facts", [])]
    if example := str(finding.get("example", "")):
        lines = example.splitlines()
        parts.append(("\n  a row as the model sees it:", "$text-muted"))
        parts += [Content(f"\n  │ {clip(line, EXAMPLE_WIDTH)}") for line in lines[:EXAMPLE_LINES]]
        parts += [Content("\n  │ …")] if len(lines) > EXAMPLE_LINES else []
    return Content.assemble(*parts)
