"""The verb `tail`: a run's steps, events and knob changes as they arrive."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import click

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.reader import EventRow, KnobRow, StepRow, StoreReader
from rlhf_engine.runs.sample import printable
from workbench.commands.common import emit, from_store, json_option, with_run
from workbench.commands.follow import POLL_SECONDS, Look, key_figures, look
from workbench.commands.text import clock, number, progress_text


@click.command()
@with_run
@click.option(
    "--last", default=10, show_default=True, type=click.IntRange(min=0), metavar="N",
    help="Start with the newest N steps.",
)  # fmt: skip
@json_option
def tail(run: RunDir, last: int, as_json: bool) -> None:
    """Follow a run live, in lines, until it ends."""
    news = _News(run, last)
    while True:
        # The state is read first: what the engine wrote before its end is then in the store.
        now = look(run)
        for record, line in [*news.records(), *news.state(now)]:
            if as_json:
                emit(record)
            else:
                click.echo(printable(line))
        if now.state.ended:
            return
        time.sleep(POLL_SECONDS)


Piece = tuple[dict[str, Any], str]


@dataclass
class _News:
    """What has arrived since the last question, as records and as lines."""

    run: RunDir
    last: int
    _seen: dict[str, int] = field(default_factory=dict)
    _states: set[tuple[str, str]] = field(default_factory=set)

    def records(self) -> list[Piece]:
        return from_store(self.run, self._read, [])

    def _read(self, store: StoreReader) -> list[Piece]:
        first = not self._seen
        steps = store.steps(self._seen.get("steps", 0))
        events = store.events(self._seen.get("events", 0))
        knobs = store.knobs(self._seen.get("knobs", 0))
        self._seen = {
            name: max([self._seen.get(name, 0), *(row.seq for row in rows)])
            for name, rows in (("steps", steps), ("events", events), ("knobs", knobs))
        }
        if first:
            steps = steps[-self.last :] if self.last else []
            since = steps[0].time if steps else float("inf")
            events = [event for event in events if event.time >= since]
            knobs = [knob for knob in knobs if knob.time >= since]
        rows: list[StepRow | EventRow | KnobRow] = [*steps, *events, *knobs]
        return [_piece(row) for row in sorted(rows, key=lambda row: row.time)]

    def state(self, now: Look) -> Iterator[Piece]:
        busy = now.progress if now.state.word == "running" else None
        key = (now.state.word, busy.text or busy.phase if busy else "")
        # An engine that has ended and still tidies up looks like one that starts.
        if key in self._states or (self._states and now.state.word == "starting"):
            return
        self._states.add(key)
        detail = progress_text(busy) if busy else now.state.detail
        record = {
            "record": "state",
            "time": time.time(),
            "state": now.state.word,
            "detail": detail,
            "step": now.state.step,
        }
        yield record, f"{clock(time.time())}  {now.state.word}{': ' + detail if detail else ''}"


def _piece(row: StepRow | EventRow | KnobRow) -> Piece:
    at = clock(row.time)
    match row:
        case StepRow():
            line = f"{at}  step {row.step}  {key_figures(row, limit=8)}"
            return {"record": "step", **row.flat()}, line
        case EventRow():
            line = f"{at}  step {row.step}  {row.level}: {row.text}"
            return {"record": "event", **vars(row)}, line
        case KnobRow():
            was = f"{number(row.old)} → " if row.old is not None else ""
            line = f"{at}  step {row.step}  {row.name} {was}{number(row.new)} ({row.source})"
            return {"record": "knob", **vars(row)}, line
