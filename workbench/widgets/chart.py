"""A chart of lines over steps, drawn with plotext from values that cannot break it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from rich.text import Text
from textual.content import Content
from textual_plotext import PlotextPlot

from workbench.widgets import ticks
from workbench.widgets.series import log_floor, thin

Rgb = tuple[int, int, int]
SMALLEST = (20, 5)


class Hue(Enum):
    """What a colour says; the first of each pair is for dark themes, the second for light ones."""

    MAIN = ((86, 180, 233), (0, 95, 153))
    MAIN_RAW = ((46, 84, 108), (160, 196, 220))
    SECOND = ((230, 159, 0), (150, 95, 0))
    SECOND_RAW = ((104, 80, 28), (222, 200, 150))
    TARGET = ((160, 166, 176), (110, 116, 126))
    KNOB = ((230, 130, 190), (150, 50, 110))
    EVENT = ((120, 128, 140), (140, 146, 156))


@dataclass(frozen=True)
class Line:
    """One line; `dots` draws single points, for what is measured now and then."""

    xs: Sequence[float]
    ys: Sequence[float]
    hue: Hue
    dots: bool = False


@dataclass(frozen=True)
class Marker:
    """A vertical line at `x` with a word at its top; without `line` a sign at the bottom."""

    x: float
    text: str
    hue: Hue
    line: bool = True


@dataclass(frozen=True)
class Picture:
    """All that a chart shows; `low` and `high` are the ends of its x axis."""

    lines: tuple[Line, ...] = ()
    low: float = 0.0
    high: float = 1.0
    target: float | None = None
    markers: tuple[Marker, ...] = ()
    log: bool = False
    time: bool = False


class Chart(PlotextPlot):
    """Shows a Picture; says so where there is no data or no room for it."""

    DEFAULT_CSS = "Chart { border: round $panel; border-title-color: $foreground; }"

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.picture = Picture()
        self._built: tuple[tuple[int, int], str] | None = None

    def show(self, picture: Picture, title: Content, subtitle: Content) -> None:
        self.picture = picture
        self.border_title, self.border_subtitle = title, subtitle
        self._built = None
        self.refresh()

    def render(self) -> Text:
        size = (self.size.width, self.size.height)
        if size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
            return Text("no room")
        key = (size, self.app.theme)
        if key != self._built:
            if not self._build(*size):
                return Text("no data yet", style="dim")
            self._built = key
        drawn = super().render()
        assert isinstance(drawn, Text)
        return drawn

    def _build(self, width: int, height: int) -> bool:
        """Put the picture into plotext's figure; False if there is nothing to draw."""
        picture, columns = self.picture, max(10, 2 * (width - 8))
        scale = log_floor if picture.log else float
        lines = []
        for line in picture.lines:
            xs, ys = thin(line.xs, line.ys, picture.low, picture.high, columns)
            lines.append((line, xs, [y if math.isnan(y) else scale(y) for y in ys]))
        target = scale(picture.target) if picture.target is not None else None
        values = [y for _, _, ys in lines for y in ys if not math.isnan(y)]
        if not values:
            return False
        low, high = _range([*values, *([target] if target is not None else [])], picture.log)
        # Not max(): with NaN second it returns the floor, and a gap would be drawn as a value.
        lines = [(line, xs, [low if y < low else y for y in ys]) for line, xs, ys in lines]
        plot = self.plt
        plot.clear_figure()
        plot.xaxes(True, False)
        plot.yaxes(True, False)
        plot.xlim(picture.low, picture.high)
        plot.ylim(low, high)
        choose = ticks.decades if picture.log else ticks.linear
        up = choose(low, high, max(2, height - 3 if not picture.log else height // 2))
        if target is not None:
            up = ticks.with_target(up, (target, f"{picture.target:g}"), (high - low) / height)
        plot.yticks(*up)
        along = ticks.times if picture.time else ticks.steps
        plot.xticks(*along(picture.low, picture.high, max(2, width // 8)))
        if target is not None:
            plot.hline(target, color=self._rgb(Hue.TARGET))
        for marker in picture.markers:
            if marker.line and picture.low <= marker.x <= picture.high:
                plot.vline(marker.x, color=self._rgb(marker.hue))
        for line, xs, ys in lines:
            draw = plot.scatter if line.dots else plot.plot
            if xs:
                sign = "•" if line.dots or len(xs) == 1 else "braille"
                draw(xs, ys, marker=sign, color=self._rgb(line.hue))
        for marker in picture.markers:
            if not marker.line and picture.low <= marker.x <= picture.high:
                self._write(marker, marker.x, low, "center")
        self._label(picture, high, width)
        return True

    def _label(self, picture: Picture, top: float, width: int) -> None:
        """Write the markers' words along the top; where two would overlap, the later one."""
        cell = (picture.high - picture.low) / max(1, width - 8)
        free = picture.high + cell
        lines = [marker for marker in picture.markers if marker.line]
        for marker in sorted(lines, key=lambda marker: -marker.x):
            room = cell * (len(marker.text) + 1)
            x = min(marker.x + cell, picture.high - room)
            if picture.low <= marker.x <= picture.high and picture.low <= x and x + room <= free:
                self._write(marker, x, top, "left")
                free = x

    def _write(
        self, marker: Marker, x: float, y: float, alignment: Literal["left", "center"]
    ) -> None:
        background = self.background_colors[1].rgb
        color = self._rgb(marker.hue)
        self.plt.text(marker.text, x, y, color=color, background=background, alignment=alignment)

    def _rgb(self, hue: Hue) -> Rgb:
        dark, light = hue.value
        return dark if self.app.current_theme.dark else light


def _range(values: Sequence[float], log: bool) -> tuple[float, float]:
    """The ends of the y axis; few very small values do not stretch a logarithmic one."""
    low, high = min(values), max(values)
    if log:
        low = max(low, sorted(values)[min(len(values) - 1, 1 + len(values) // 50)] - 0.3)
    if high - low < 1e-9 * max(1.0, abs(low)):
        pad = 0.5 if log or low == 0 else abs(low) * 0.1
    else:
        pad = (high - low) * 0.06
    return low - pad, high + pad
