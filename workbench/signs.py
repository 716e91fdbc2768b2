"""Signs for terminals without UTF-8: each sign that is not ASCII has a stand-in as wide as it."""

import codecs
import io
import sys
import unicodedata
from functools import lru_cache
from typing import TextIO

from rich.cells import cell_len, get_character_cell_size

HANDLER = "workbench-signs"
_STAND_INS = {
    **dict(zip("▁▂▃▄▅▆▇█░▒▓▀▔", '_.-~=+*#.:#"-', strict=True)),
    **dict(zip("▏▎▍▌▋▊▉▐▕", "|||||||||", strict=True)),
    **dict(zip("→←↑↓▲▼▸▶►◀◂⏎↵", "><^v^v>>><<<<", strict=True)),
    **dict(zip("●○◌◐✓✗■□‖–—…·•×−≤≥±√°", "*oo%vx##|--..*x-<>~Vo", strict=True)),
    **dict(zip("αβγλ“”‘’\u00a0", "aBgl\"\"'' ", strict=True)),
}
# Which of the four rows of a braille sign each of its bits belongs to.
_BRAILLE_ROWS = (0, 1, 2, 0, 1, 2, 3, 3)


def ascii_signs(text: str) -> str:
    """The text in ASCII, as many cells wide as before."""
    shown = "".join(sign if sign.isascii() else _stand_in(sign) for sign in text)
    # Signs that join into one are narrower together.
    width = cell_len(text)
    return shown[:width].ljust(width, "?")


@lru_cache(4096)
def _stand_in(sign: str) -> str:
    if sign in _STAND_INS:
        return _STAND_INS[sign]
    if "\u2800" <= sign <= "\u28ff":
        return _braille(ord(sign) - 0x2800)
    if "\u2500" <= sign <= "\u257f":
        return _box(unicodedata.name(sign))
    base = unicodedata.normalize("NFKD", sign)[0]
    width = get_character_cell_size(sign)
    return base if base.isascii() and base.isprintable() and width == 1 else "?" * width


def _braille(bits: int) -> str:
    """A curve in a cell: at its top, in its middle, at its bottom, or through all of it."""
    rows = {row for bit, row in enumerate(_BRAILLE_ROWS) if bits >> bit & 1}
    if not rows:
        return " "
    if max(rows) - min(rows) >= 2:
        return "|"
    return "'" if max(rows) <= 1 else "." if min(rows) >= 2 else "-"


def _box(name: str) -> str:
    if "DIAGONAL" in name:
        return "X" if "CROSS" in name else "/" if "TO LOWER LEFT" in name else "\\"
    across = any(word in name for word in ("HORIZONTAL", "LEFT", "RIGHT"))
    upright = any(word in name for word in ("VERTICAL", "UP", "DOWN"))
    if across and upright:
        return "+"
    return "|" if upright else "=" if "DOUBLE" in name else "-"


def _encode(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return ascii_signs(error.object[error.start : error.end]), error.end


codecs.register_error(HANDLER, _encode)


def has_utf8(stream: TextIO | None = None) -> bool:
    """Whether what is written to the stream (standard error: the screens) goes out as UTF-8."""
    encoding = getattr(stream or sys.__stderr__, "encoding", "") or ""
    return encoding.lower().replace("-", "") in ("utf8", "utf8sig")


def use_stand_ins(always: bool = False) -> None:
    """Write stand-ins where the terminal's encoding lacks a sign, or `always`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="ascii" if always else None, errors=HANDLER)
