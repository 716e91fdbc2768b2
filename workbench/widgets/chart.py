"""A chart of lines over steps, drawn from values that cannot break it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal, Self

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from workbench.widgets import ticks
from workbench.widgets.raster import Raster, Rgb, Run
from workbench.widgets.thinning import Columns, Ends, log_floor

SMALLEST = (20, 4)
DOTTED = "┊"


class Hue(Enum):
    """What a colour says; the first of each pair is for dark themes, the second for light ones."""

    MAIN = ((86, 180, 233), (0, 95, 153))
    MAIN_RAW = ((46, 84, 108), (160, 196, 220))
    SECOND = ((230, 159, 0), (150, 95, 0))
    SECOND_RAW = ((104, 80, 28), (222, 200, 150))
    THIRD = ((0, 178, 130), (0, 110, 80))
    THIRD_RAW = ((20, 84, 68), (150, 210, 190))
    TARGET = ((160, 166, 176), (110, 116, 126))
    KNOB = ((230, 130, 190), (150, 50, 110))
    GUARD = ((225, 110, 50), (180, 70, 0))
    EVENT = ((120, 128, 140), (140, 146, 156))
    CURSOR = ((240, 240, 240), (20, 20, 20))


@dataclass(frozen=True)
class Line:
    """One line; `dots` draws single points, for what is measured now and then.

    `ends` are those of `ys`, with which long lines are thinned sooner.
    """

    xs: Sequence[float]
    ys: Sequence[float]
    hue: Hue
    dots: bool = False
    ends: Ends | None = None


@dataclass(frozen=True)
class Marker:
    """A vertical line at `x` with a word at its top, or a sign at the bottom."""

    x: float
    text: str
    hue: Hue
    style: Literal["line", "dotted", "sign"] = "line"


@dataclass(frozen=True)
class Picture:
    """All that a chart shows; `low` and `high` are the ends of its x axis.

    `below` are the places where a value was too low for a logarithmic axis; `cursor` is where the
    crosshair stands.
    """

    lines: tuple[Line, ...] = ()
    low: float = 0.0
    high: float = 1.0
    target: float | None = None
    markers: tuple[Marker, ...] = ()
    log: bool = False
    time: bool = False
    below: Sequence[float] = ()
    cursor: Marker | None = None


class Chart(Widget):
    """Shows a Picture; says so where there is no data or no room for it."""

    DEFAULT_CSS = """
    Chart {
        border: round $panel; border-title-color: $foreground; border-subtitle-color: $foreground;
    }
    """

    @dataclass
    class Pointed(Message):
        """A person clicked on the chart at `x` of its axis."""

        x: float

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.picture = Picture()
        self.plt = Raster()
        self._titles_alone = False
        self._drawn: tuple[object, list[Strip]] = (None, [])

    def show(self, picture: Picture, title: Content, subtitle: Content) -> None:
        """Show a picture; one that would look the same but for its titles changes those alone."""
        dot = (picture.high - picture.low) / max(1, 2 * self.size.width)
        self._titles_alone = _looks_alike(self.picture, picture, dot)
        if not self._titles_alone:
            self.picture = picture
            self._drawn = (None, [])
        if (str(title), str(subtitle)) != (str(self.border_title), str(self.border_subtitle)):
            self.border_title, self.border_subtitle = title, subtitle
        if not self._titles_alone:
            self.refresh()
        self._titles_alone = False

    def refresh(
        self,
        *regions: Region,
        repaint: bool = True,
        layout: bool = False,
        recompose: bool = False,
    ) -> Self:
        """Paint anew; where only the titles are others, the border's two lines."""
        if self._titles_alone:
            width, height = self.size
            regions = (Region(-1, -1, width + 2, 1), Region(-1, height, width + 2, 1))
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        key = (width, height, self.app.theme)
        if key != self._drawn[0]:
            style = self.rich_style
            strips = [_strip(row, style, width) for row in self._rows(width, height)]
            self._drawn = (key, strips)
        strips = self._drawn[1]
        return strips[y] if y < len(strips) else Strip.blank(width, self.rich_style)

    def notify_style_update(self) -> None:
        self._drawn = (None, [])
        super().notify_style_update()

    def _rows(self, width: int, height: int) -> list[list[Run]]:
        if width < SMALLEST[0] or height < SMALLEST[1]:
            return [[("no room", None)]]
        if not self._build(width, height):
            return [[("no data yet", self._rgb(Hue.EVENT))]]
        return self.plt.rows(width, height)

    def on_click(self, event: events.Click) -> None:
        at = event.get_content_offset(self)
        left = self.plt.left
        if at is not None and self.plt.signals and at.x >= left:
            share = (at.x - left) / max(1, self.size.width - left - 1)
            low, high = self.picture.low, self.picture.high
            self.post_message(self.Pointed(low + share * (high - low)))

    def _build(self, width: int, height: int) -> bool:
        """Put the picture into the raster; False if there is nothing to draw."""
        self.plt = Raster()
        picture = self.picture
        columns = Columns(picture.low, picture.high, max(10, 2 * (width - 8)))
        scale = log_floor if picture.log else float
        lines = []
        for line in picture.lines:
            xs, ys = columns.thin(line.xs, line.ys, line.ends)
            lines.append((line, xs, [y if math.isnan(y) else scale(y) for y in ys]))
        target = scale(picture.target) if picture.target is not None else None
        values = [y for _, _, ys in lines for y in ys if not math.isnan(y)]
        if not values:
            return False
        low, high = _range([*values, *([target] if target is not None else [])], picture.log)
        # Not max(): with NaN second it returns the floor, and a gap would be drawn as a value.
        lines = [(line, xs, [low if y < low else y for y in ys]) for line, xs, ys in lines]
        self._axes(low, high, target)
        cell = (picture.high - picture.low) / max(1, width - 8)
        markers = one_a_column(picture, cell)
        self._upright(markers, low, high, height)
        for line, xs, ys in lines:
            if line.dots or len(xs) == 1:
                self.plt.scatter(xs, ys, "•", self._rgb(line.hue))
            elif xs:
                self.plt.plot(xs, ys, self._rgb(line.hue))
        if picture.below:
            below, floor = columns.thin(picture.below, picture.below)
            self.plt.scatter(below, [low] * len(floor), "▾", self._rgb(Hue.GUARD))
        for marker in markers:
            if marker.style == "sign":
                self._write(marker, marker.x, low, "center")
        self._label([marker for marker in markers if marker.style != "sign"], high, cell)
        return True

    def _axes(self, low: float, high: float, target: float | None) -> None:
        picture, plot, (width, height) = self.picture, self.plt, self.size
        plot.x_ends, plot.y_ends = (picture.low, picture.high), (low, high)
        choose = ticks.decades if picture.log else ticks.linear
        up = choose(low, high, max(2, height - 3 if not picture.log else height // 2))
        if picture.target is not None and target is not None:
            up = ticks.with_target(up, (target, f"{picture.target:g}"), (high - low) / height)
        plot.y_ticks = up
        along = ticks.times if picture.time else ticks.steps
        plot.x_ticks = along(picture.low, picture.high, max(2, width // 8))
        if target is not None:
            plot.hline(target, color=self._rgb(Hue.TARGET))

    def _upright(self, markers: Sequence[Marker], low: float, high: float, height: int) -> None:
        """Draw the markers' vertical lines; those of the data are drawn over them."""
        for marker in markers:
            color = self._rgb(marker.hue)
            if marker.style == "line":
                self.plt.vline(marker.x, color=color)
            elif marker.style == "dotted":
                ys = [low + (high - low) * row / height for row in range(height + 1)]
                self.plt.scatter([marker.x] * len(ys), ys, DOTTED, color)

    def _label(self, markers: Sequence[Marker], top: float, cell: float) -> None:
        """Write the markers' words along the top; where two would overlap, the later one, but
        first of all the crosshair's."""
        picture = self.picture
        taken: list[tuple[float, float]] = []
        for marker in sorted(markers, key=lambda marker: (marker.hue is not Hue.CURSOR, -marker.x)):
            room = cell * (len(marker.text) + 1)
            x = min(marker.x + cell, picture.high - room)
            if picture.low <= x and not any(x < end and x + room > start for start, end in taken):
                self._write(marker, x, top, "left")
                taken.append((x, x + room))

    def _write(
        self, marker: Marker, x: float, y: float, alignment: Literal["left", "center"]
    ) -> None:
        self.plt.text(marker.text, x, y, self._rgb(marker.hue), alignment == "center")

    def _rgb(self, hue: Hue) -> Rgb:
        dark, light = hue.value
        return dark if self.app.current_theme.dark else light


def _looks_alike(old: Picture, new: Picture, dot: float) -> bool:
    """Whether a picture differs from another by less than a dot of its width: a few more steps at
    the end of a long run."""
    return (
        abs(new.low - old.low) < dot
        and 0 <= new.high - old.high < dot
        and replace(old, low=0, high=0, lines=(), below=())
        == replace(new, low=0, high=0, lines=(), below=())
        and len(old.lines) == len(new.lines)
        and len(old.below) == len(new.below)
        and all(
            a == b if a.dots else a is b or (a.xs is b.xs and a.ys is b.ys and a.hue is b.hue)
            for a, b in zip(old.lines, new.lines, strict=True)
        )
    )


def one_a_column(picture: Picture, cell: float) -> list[Marker]:
    """The markers within the picture's ends, the last of each look in a column; then the
    crosshair's."""
    found: dict[tuple[int, Hue, str], Marker] = {}
    for marker in picture.markers:
        if picture.low <= marker.x <= picture.high:
            found[int((marker.x - picture.low) / cell), marker.hue, marker.style] = marker
    if picture.cursor:
        # A dotted line would be drawn over the crosshair's.
        here = int((picture.cursor.x - picture.low) / cell)
        found = {at: m for at, m in found.items() if m.style != "dotted" or at[0] != here}
    return [*found.values(), *([picture.cursor] if picture.cursor else [])]


def _range(values: Sequence[float], log: bool) -> tuple[float, float]:
    """The ends of the y axis; few very small values do not stretch a logarithmic one."""
    low, high = min(values), max(values)
    if log:
        low = max(low, sorted(values)[min(len(values) - 1, 1 + len(values) // 50)] - 0.3)
    return ticks.with_air(low, high, log)


def _strip(row: Sequence[Run], style: Style, width: int) -> Strip:
    segments = [
        Segment(text, style + Style.from_color(Color.from_rgb(*color)) if color else style)
        for text, color in row
    ]
    return Strip(segments).adjust_cell_length(width, style)
