"""Lines in a terminal's cells: axes with ticks, braille lines, signs and words, all in one pass.

The look is that of plotext; this is several times faster, which counts since charts are drawn
twice a second and at each key.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

Rgb = tuple[int, int, int]
Run = tuple[str, Rgb | None]
BRAILLE = "braille"
# The bit of each dot of a braille sign, left and right, from the bottom up.
DOTS = ((0x40, 0x80), (0x04, 0x20), (0x02, 0x10), (0x01, 0x08))
# The sign of each set of dots: the left ones as the four upper bits of its index, the right ones as
# the four lower, the lowest dot first.
SIGNS = [
    chr(
        0x2800
        + sum(
            (pair >> 4 + i & 1) * l_bit + (pair >> i & 1) * r_bit
            for i, (l_bit, r_bit) in enumerate(DOTS)
        )
    )
    for pair in range(256)
]


@dataclass
class _Signal:
    xs: Sequence[float]
    ys: Sequence[float]
    sign: str
    color: Rgb


@dataclass
class _Words:
    text: str
    x: float
    y: float
    color: Rgb
    centred: bool


@dataclass
class Raster:
    """What is to be drawn, in the order in which it covers what was drawn before."""

    x_ends: tuple[float, float] = (0.0, 1.0)
    y_ends: tuple[float, float] = (0.0, 1.0)
    x_ticks: tuple[Sequence[float], Sequence[str]] = ((), ())
    y_ticks: tuple[Sequence[float], Sequence[str]] = ((), ())
    across: list[tuple[float, Rgb]] = field(default_factory=list)
    upright: list[tuple[float, Rgb]] = field(default_factory=list)
    signals: list[_Signal] = field(default_factory=list)
    words: list[_Words] = field(default_factory=list)

    def hline(self, y: float, color: Rgb) -> None:
        self.across.append((y, color))

    def vline(self, x: float, color: Rgb) -> None:
        self.upright.append((x, color))

    def plot(self, xs: Sequence[float], ys: Sequence[float], color: Rgb) -> None:
        """A line through the points; NaN breaks it."""
        self.signals.append(_Signal(xs, ys, BRAILLE, color))

    def scatter(self, xs: Sequence[float], ys: Sequence[float], sign: str, color: Rgb) -> None:
        """A sign at each point."""
        self.signals.append(_Signal(xs, ys, sign, color))

    def text(self, text: str, x: float, y: float, color: Rgb, centred: bool = False) -> None:
        self.words.append(_Words(text, x, y, color, centred))

    @property
    def left(self) -> int:
        """Cells before the canvas: the labels and the axis."""
        return 1 + max(map(len, self.y_ticks[1]), default=0)

    def rows(self, width: int, height: int) -> list[list[Run]]:
        """The picture from the top row down, each row as runs of one colour."""
        canvas = _Canvas(width, height, self.left, 2 if self.x_ticks[1] else 1)
        columns = canvas.columns(self.x_ticks[0], self.x_ends)
        rows = canvas.rows(self.y_ticks[0], self.y_ends)
        across = [(canvas.rows([y], self.y_ends)[0], color) for y, color in self.across]
        upright = [(canvas.columns([x], self.x_ends)[0], color) for x, color in self.upright]
        canvas.labels(columns, self.x_ticks[1], rows, self.y_ticks[1])
        canvas.axes(rows, {row for row, _ in across}, {column for column, _ in upright})
        for row, color in across:
            for column in range(canvas.width):
                canvas.put(column, row, "─", color)
        for column, color in upright:
            for row in range(canvas.height):
                canvas.put(column, row, "│", color)
            for row, line_color in across:
                canvas.put(column, row, "┼", line_color)
        for signal in self.signals:
            self._draw(canvas, signal)
        for words in self.words:
            column = canvas.columns([words.x], self.x_ends)[0]
            start = column - len(words.text) // 2 if words.centred else column
            row = canvas.rows([words.y], self.y_ends)[0]
            for offset, sign in enumerate(words.text):
                canvas.put(start + offset, row, sign, words.color)
        return canvas.runs()

    def _draw(self, canvas: "_Canvas", signal: _Signal) -> None:
        if signal.sign == BRAILLE:
            xs = _places(signal.xs, self.x_ends, 2 * canvas.width)
            ys = _places(signal.ys, self.y_ends, 4 * canvas.height)
            canvas.dots(_spans(xs, ys), signal.color)
            return
        for x, y in zip(signal.xs, signal.ys, strict=True):
            if not math.isnan(y):
                column = canvas.columns([x], self.x_ends)[0]
                canvas.put(column, canvas.rows([y], self.y_ends)[0], signal.sign, signal.color)


class _Canvas:
    """Cells from the bottom up; `put` and `dots` count from the corner where the axes meet."""

    def __init__(self, width: int, height: int, left: int, below: int) -> None:
        self._all_columns, self._all_rows = width, height
        self._left, self._below = left, below
        self.width, self.height = max(1, width - left), max(1, height - below)
        self._signs = [[" "] * width for _ in range(height)]
        self._colors: list[list[Rgb | None]] = [[None] * width for _ in range(height)]
        self._ticks: set[int] = set()

    def columns(self, xs: Iterable[float], ends: tuple[float, float]) -> list[int]:
        return [place for place in _places(xs, ends, self.width) if place is not None]

    def rows(self, ys: Iterable[float], ends: tuple[float, float]) -> list[int]:
        return [place for place in _places(ys, ends, self.height) if place is not None]

    def put(self, column: int, row: int, sign: str, color: Rgb) -> None:
        if 0 <= column < self.width and 0 <= row < self.height:
            self._signs[row + self._below][column + self._left] = sign
            self._colors[row + self._below][column + self._left] = color

    def labels(
        self, columns: Sequence[int], along: Sequence[str], rows: Sequence[int], up: Sequence[str]
    ) -> None:
        """Write what the ticks say; a label that has no room goes, and its tick with it."""
        for column, label in zip(columns, along, strict=True):
            if self._write_along(column + self._left, label):
                self._ticks.add(column)
        for row, label in zip(rows, up, strict=True):
            if 0 <= row < self.height:
                line = self._signs[row + self._below]
                for index, sign in enumerate(label.rjust(self._left - 1)[: self._all_columns]):
                    line[index] = sign

    def _write_along(self, column: int, label: str) -> bool:
        """Put a label under its tick, as far in the middle as the ends and the others allow."""
        line, length = self._signs[0], len(label)
        near = range(max(column - length + 1, 0), min(column + length, len(line) - 1))
        free = [index for index in near if line[index] == " "]
        first = min(free, default=column - length + 1)
        last = max(free, default=column + length)
        start = (last - length + 1 + first + length - length) // 2
        around = line[max(start - 1, 0) : min(start + length + 1, len(line))]
        if start < 0 or start + length > len(line) or any(sign != " " for sign in around):
            return False
        line[start : start + length] = label
        return True

    def axes(self, rows: Sequence[int], across: set[int], upright: set[int]) -> None:
        for row in range(min(self.height, self._all_rows - self._below)):
            sign = "├" if row in across else "┤" if row in rows else "│"
            self._signs[row + self._below][self._left - 1] = sign
        line = self._signs[self._below - 1]
        line[self._left - 1] = "└"
        for column in range(min(self.width, self._all_columns - self._left)):
            sign = "┴" if column in upright else "┬" if column in self._ticks else "─"
            line[column + self._left] = sign

    def dots(self, spans: Iterable[tuple[int, int, int]], color: Rgb) -> None:
        """Draw upright spans of dots, each its column and its ends; what else is in their cells is
        covered."""
        width, top = self.width, 4 * self.height - 1
        # Of each column of dots, those that are drawn as the bits of a number.
        drawn = [0] * (2 * width)
        for x, low, high in spans:
            # Not max() and min(): this runs for every dot column of every line.
            low, high = low if low > 0 else 0, high if high < top else top
            if low <= high and 0 <= x < 2 * width:
                drawn[x] |= (2 << high) - (1 << low)
        signs, colors, column = self._signs, self._colors, self._left
        for left, right in zip(drawn[::2], drawn[1::2], strict=True):
            # Not `put`, and nothing for the rows below the lowest dot: there are hundreds of cells.
            both = left | right
            lowest = ((both & -both).bit_length() - 1) // 4 if both else 0
            left, right, row = left >> 4 * lowest, right >> 4 * lowest, lowest + self._below
            while left or right:
                if pair := (left & 15) << 4 | right & 15:
                    signs[row][column], colors[row][column] = SIGNS[pair], color
                left, right, row = left >> 4, right >> 4, row + 1
            column += 1

    def runs(self) -> list[list[Run]]:
        return [
            list(_runs(signs, colors))
            for signs, colors in zip(self._signs[::-1], self._colors[::-1], strict=True)
        ]


def _places(values: Iterable[float], ends: tuple[float, float], count: int) -> list[int | None]:
    """Which of `count` places between the ends each value has; None for NaN."""
    low, factor, floor = ends[0], (count - 1) / (ends[1] - ends[0]), math.floor
    # What is a hair's breadth below the middle between two places belongs to the upper one.
    return [
        None if value != value else floor(factor * (value - low) + (0.5 + 1e-8)) for value in values
    ]


def _spans(xs: Sequence[int | None], ys: Sequence[int | None]) -> Iterator[tuple[int, int, int]]:
    """The dots of a line through the points, broken where a point is missing: for each column one
    upright span, since the dots of a line that goes to the right follow each other there."""
    column, low, high = 0, 0, -1
    before: tuple[int, int] | None = None
    for x, y in zip(xs, ys, strict=True):
        if x is None or y is None:
            before = None
            continue
        if before is not None:
            x0, y0 = before
            if x - x0 <= 1:
                # Up to the dot before the point; the first of them is in the span already.
                last = y - 1 if y > y0 else y + 1 if y < y0 else y
                low, high = min(low, last), max(high, last)
            else:
                steps = max(x - x0, abs(y - y0))
                across, up = (x - x0) / steps, (y - y0) / steps
                for i in range(1, steps):
                    at, row = int(x0 + i * across), int(y0 + i * up)
                    if at == column:
                        low, high = min(low, row), max(high, row)
                    else:
                        yield column, low, high
                        column, low, high = at, row, row
        if x == column and before is not None:
            low, high = min(low, y), max(high, y)
        else:
            if low <= high:
                yield column, low, high
            column, low, high = x, y, y
        before = x, y
    if low <= high:
        yield column, low, high


def _runs(signs: Sequence[str], colors: Sequence[Rgb | None]) -> Iterator[Run]:
    start = 0
    for index in range(1, len(signs) + 1):
        if index == len(signs) or colors[index] != colors[start]:
            yield "".join(signs[start:index]), colors[start]
            start = index
