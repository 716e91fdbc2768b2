"""The table of `make bench-gpu`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

GIB = 2**30
# Most GiB of reserved memory that a shape's arm may take; most of TRL's seconds a step.
MEMORY_GOALS = {
    ("qwen2.5-0.5b", "nf4"): 3.0,
    ("qwen2.5-3b", "nf4"): 6.0,
    ("llama-3.1-8b", "nf4"): 12.0,
}
TIME_GOAL = 0.4
PHASES = ("generate", "judge", "measure", "update")
SPEEDS = ("generate", "measure", "update")
HEAD = (
    "shape",
    "arm",
    "s/step",
    "of TRL's",
    *(f"{name} tok/s" for name in SPEEDS),
    "peak GiB",
    *(f"{name} GiB (estimate)" for name in PHASES),
    "goals",
)

Row = Mapping[str, Any]


def table(rows: Sequence[Row]) -> str:
    """All rows in Markdown; under each device those that ran on it, with the goals they met."""
    devices = list(dict.fromkeys((row["device"], row["torch"]) for row in rows))
    return "\n".join(line for device in devices for line in _of_device(device, rows))


def _of_device(device: tuple[str, str], rows: Sequence[Row]) -> Iterator[str]:
    own = [row for row in rows if (row["device"], row["torch"]) == device]
    work = own[0]
    kind = "resident memory" if device[0].startswith("CPU") else "memory that torch reserved"
    yield (
        f"\n{device[0]}, torch {device[1]}; {work['responses']} responses of {work['prompt']} + "
        f"{work['new']} tokens, 4 epochs; peaks are of {kind}\n"
    )
    yield _line(HEAD)
    yield _line(["---"] * len(HEAD))
    peers = {row["shape"]: row for row in own if row["arm"] == "trl" and "failed" not in row}
    for row in own:
        yield _line(_cells(row, peers.get(row["shape"])))


def _cells(row: Row, peer: Row | None) -> list[str]:
    if "failed" in row:
        blank = [""] * (len(HEAD) - 3)
        return [row["shape"], row["arm"], f"failed: {row['failed']}".replace("|", "/"), *blank]
    share = None
    if peer is not None and row is not peer:
        share = row["seconds_per_step"] / peer["seconds_per_step"]
    speeds = row.get("tokens_per_second", {})
    peak = max(row["bytes"].values()) / GIB
    return [
        row["shape"],
        row["arm"],
        f"{row['seconds_per_step']:.2f}",
        "" if share is None else f"{share:.2f}",
        *(f"{speeds[name]:,.0f}" if name in speeds else "" for name in SPEEDS),
        f"{peak:.2f}",
        *(_phase(row, name) for name in PHASES),
        "; ".join(_goals(row, peak, share)),
    ]


def _phase(row: Row, name: str) -> str:
    """What was reserved, what was estimated, and how far that is off."""
    found, expected = row["bytes"].get(name), row.get("estimate", {}).get(name)
    if found is None or expected is None:
        return ""
    off = expected / found - 1
    return f"{found / GIB:.2f} ({expected / GIB:.2f}, {off:+.0%})"


def _goals(row: Row, peak: float, share: float | None) -> Iterator[str]:
    most = MEMORY_GOALS.get((row["shape"], row["arm"]))
    if most is not None:
        yield f"{'met' if peak <= most else 'missed'}: at most {most:g} GiB"
    if share is not None and row["arm"] == "bf16":
        yield f"{'met' if share <= TIME_GOAL else 'missed'}: at most {TIME_GOAL:g} of TRL's time"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
