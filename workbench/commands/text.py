"""Plain text for terminals: widths in cells, wrapping, tables, numbers, times."""

import math
import shutil
import time
import unicodedata
from collections.abc import Sequence

from rlhf_engine.runs.reader import Progress
from rlhf_engine.runs.sample import printable

Cell = str | float | None
GIB = 2**30


def terminal_width() -> int:
    """Columns of the terminal; 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def cells(text: str) -> int:
    """Columns that the text takes in a terminal: wide signs take two, marks and joiners none."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.category(sign) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(sign) in "WF"
        else 1
        for sign in text
    )


def clip(text: str, width: int) -> str:
    """The text as one printable line of at most `width` cells."""
    text = text.lstrip()
    # A response may have 100,000 signs, of which a line shows few.
    some = text[: 8 * width + 64]
    line, cut = " ".join(printable(some).split()), len(text) > len(some)
    used = end = 0
    for index, sign in enumerate(line, start=1):
        used += cells(sign)
        if used > width:
            return f"{line[:end]}…"
        if used < width:
            end = index
    return f"{line[:end]}…" if cut else line


def wrap(text: str, width: int) -> list[str]:
    """The text as printable lines of at most `width` cells; a longer word is cut."""
    lines = [""]
    for word in printable(text).split():
        spaced = f"{lines[-1]} {word}".lstrip()
        if cells(spaced) <= width:
            lines[-1] = spaced
            continue
        if lines[-1]:
            lines.append("")
        for sign in word:
            if cells(lines[-1] + sign) > width:
                lines.append("")
            lines[-1] += sign
    return lines


def paragraph(label: str, text: str, indent: int, width: int) -> list[str]:
    """A label and its text, wrapped in a column that starts at `indent`."""
    first, *rest = wrap(text, width - indent)
    head = label + " " * (indent - cells(label))
    return [f"{head}{first}".rstrip(), *(" " * indent + line for line in rest)]


def number(value: float | None) -> str:
    """Four significant digits; `–` for none."""
    if value is None or math.isnan(value):
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def gib(size: float) -> str:
    """A size of memory, such as `2.31 GiB`."""
    return f"{size / GIB:.2f} GiB"


def grid(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """A table with two blanks between columns; numbers stand at the right of theirs."""
    shown = [[cell if isinstance(cell, str) else number(cell) for cell in row] for row in rows]
    widths = [max(map(cells, column)) for column in zip(header, *shown, strict=True)]
    right = [any(not isinstance(row[i], str) for row in rows) for i in range(len(header))]
    return [
        "  ".join(
            " " * (width - cells(cell)) + cell if at_right else cell + " " * (width - cells(cell))
            for cell, width, at_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in (header, *shown)
    ]


def clock(at: float) -> str:
    """A moment in local time."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def of_total(done: float, total: float | None) -> str:
    """`3/24`, or `3` where the end is not known."""
    return f"{_count(done)}/{_count(total)}" if total is not None else _count(done)


def _count(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:g}"


def progress_text(progress: Progress) -> str:
    """What the engine does now, with its measure: `generate 12/32 responses`."""
    words = [progress.text or progress.phase]
    if progress.total is not None or progress.done:
        words += [of_total(progress.done, progress.total), progress.unit]
    return " ".join(word for word in words if word)
