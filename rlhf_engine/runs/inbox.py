"""Commands: durable requests to a run, one file each, taken up exactly once."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rlhf_engine.runs.directory import write_private

Kind = Literal["set", "pause", "resume", "checkpoint", "rollback", "stop", "sample", "evaluate"]


@dataclass(frozen=True)
class Command:
    """A request as it stands in the inbox; `id` is its file's name and sorts by time."""

    id: str
    kind: Kind
    body: dict[str, Any]
    client: str
    sent: float


class BadCommand(Exception):
    """A file in the inbox that is no command; carries the reason."""


def send(inbox: Path, kind: Kind, body: dict[str, Any] | None = None, client: str = "") -> str:
    """Put a command into a run's inbox, durably; return its id."""
    command_id = f"{time.time_ns()}-{os.urandom(4).hex()}"
    content = {"kind": kind, "body": body or {}, "client": client, "sent": time.time()}
    write_private(inbox / f"{command_id}.json", json.dumps(content))
    folder = os.open(inbox, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return command_id


def waiting(inbox: Path) -> list[Path]:
    """Files of the commands not yet taken up, oldest first."""
    try:
        return sorted(path for path in inbox.iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return []


def read(path: Path) -> Command:
    """Parse a command file; BadCommand says what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        kind, body = content["kind"], content["body"]
        client, sent = str(content.get("client", "")), float(content.get("sent", 0.0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCommand(f"not a command file: {error!r}") from None
    if kind not in get_args(Kind) or not isinstance(body, dict):
        raise BadCommand(f"unknown command {kind!r}; known: {', '.join(get_args(Kind))}")
    return Command(path.stem, kind, body, client, sent)


def pending(inbox: Path) -> list[Command]:
    """The well-formed commands not yet taken up, for a viewer to show."""
    found = []
    for path in waiting(inbox):
        try:
            found.append(read(path))
        except BadCommand:
            continue
    return found
