"""Tokens as lines of a terminal: wrapped at tokens, wide signs and combining marks counted."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from rlhf_engine.runs.sample import printable

TAB = 4


@dataclass(frozen=True)
class Layout:
    """Lines of (text, token) parts, and the first line of every token."""

    lines: list[list[tuple[str, int]]]
    line_of: list[int]

    @classmethod
    def of(cls, pieces: Sequence[str], width: int, glyphs: bool = False) -> "Layout":
        """Wrap tokens; with `glyphs` blanks, tabs and ends of lines are signs.

        A token whose character comes with a later token takes a sign only with `glyphs`.
        """
        lines: list[list[tuple[str, int]]] = [[]]
        line_of, room = [], width
        for token, piece in enumerate(pieces):
            texts = _shown(piece, glyphs)
            first = cell_len(texts[0])
            if room < first <= width and texts[0].strip() and lines[-1]:
                lines.append([])
                room = width
            line_of.append(len(lines) - 1)
            for number, text in enumerate(texts):
                if number:
                    lines.append([])
                    room = width
                for part in _cut(text, room, width):
                    if part is None:
                        lines.append([])
                        room = width
                    else:
                        lines[-1].append((part, token))
                        room -= cell_len(part)
        return cls(lines, line_of)


def _shown(piece: str, glyphs: bool) -> list[str]:
    """The lines of a token; the end of a line keeps a cell for the cursor."""
    text = printable(piece)
    if glyphs:
        text = text.replace(" ", "·").replace("\t", "→" + " " * (TAB - 1)) or "▫"
        return text.replace("\n", "⏎\n").split("\n")
    return text.replace("\t", " " * TAB).replace("\n", " \n").split("\n")


def _cut(text: str, room: int, width: int) -> list[str | None]:
    """Parts that fit, with None where a new line begins."""
    if cell_len(text) <= room:
        return [text] if text else []
    parts: list[str | None] = []
    part, left = "", room
    for sign in text:
        size = cell_len(sign)
        if size > left:
            parts += [part, None] if part else [None]
            part, left = "", width
        part += sign
        left -= size
    return [*parts, part] if part else parts
