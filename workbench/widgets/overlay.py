"""A chart that lays runs over each other: a colour and a letter for each, over any axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text
from textual.content import Content
from textual_plotext import PlotextPlot

from workbench.board import LETTERS, SLOTS, Axis, Rgb
from workbench.widgets import ticks
from workbench.widgets.thinning import LOG_FLOOR, Columns, drawable, log_floor

SMALLEST = (20, 5)
NAN = float("nan")


@dataclass(frozen=True)
class Trace:
    """One run's line in its slot's colour and letter; `points` draws small letters instead."""

    slot: int
    xs: Sequence[float]
    ys: Sequence[float]
    points: bool = False

    @property
    def sign(self) -> str:
        return LETTERS[self.slot].lower() if self.points else LETTERS[self.slot]


@dataclass(frozen=True)
class OverlayPicture:
    """All that an overlay shows; `ends` are those of its y axis where charts share one."""

    traces: tuple[Trace, ...] = ()
    low: float = 0.0
    high: float = 1.0
    axis: Axis = "step"
    log: bool = False
    ends: tuple[float, float] | None = None
    missing: str = "no data yet"


class Overlay(PlotextPlot):
    """Shows an OverlayPicture; says so where there is no data or no room for it."""

    DEFAULT_CSS = """
    Overlay {
        border: round $panel; border-title-color: $foreground; border-subtitle-color: $foreground;
    }
    """

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.picture = OverlayPicture()
        self._built: tuple[tuple[int, int], str] | None = None

    def show(self, picture: OverlayPicture, title: Content, subtitle: Content) -> None:
        self.border_title, self.border_subtitle = title, subtitle
        self.picture, self._built = picture, None
        self.refresh()

    def render(self) -> Text:
        size = (self.size.width, self.size.height)
        if size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
            return Text("no room")
        key = (size, self.app.theme)
        if key != self._built:
            if not self._build(*size):
                return Text(self.picture.missing, style="dim")
            self._built = key
        drawn = super().render()
        assert isinstance(drawn, Text)
        return on_any_ground(drawn) if self.app.current_theme.ansi else drawn

    def _build(self, width: int, height: int) -> bool:
        """Put the picture into plotext's figure; False if there is nothing to draw."""
        picture = self.picture
        drawn = [(trace, *_thinned(trace, picture, 2 * (width - 8))) for trace in picture.traces]
        ends = picture.ends or y_ends([ys for _, _, ys in drawn])
        if ends is None or not drawn:
            return False
        low, high = ends
        plot = self.plt
        plot.clear_figure()
        plot.xaxes(True, False)
        plot.yaxes(True, False)
        plot.xlim(picture.low, picture.high)
        plot.ylim(low, high)
        choose = ticks.decades if picture.log else ticks.linear
        plot.yticks(*choose(low, high, max(2, height // 2 if picture.log else height - 3)))
        along = {"step": ticks.steps, "time": ticks.times, "KL": ticks.linear}[picture.axis]
        plot.xticks(*along(picture.low, picture.high, max(2, width // 8)))
        for trace, xs, ys in drawn:
            if not trace.points and any(not math.isnan(y) for y in ys):
                sign = "braille" if len(xs) > 1 else trace.sign
                plot.plot(xs, ys, marker=sign, color=self._rgb(trace.slot))
        for trace, xs, ys in drawn:
            for x, y in _places(trace, xs, ys, picture, width):
                self._write(trace, x, y)
        return True

    def _write(self, trace: Trace, x: float, y: float) -> None:
        background = self.background_colors[1].rgb
        color = self._rgb(trace.slot)
        self.plt.text(trace.sign, x, y, color=color, background=background, alignment="center")

    def _rgb(self, slot: int) -> Rgb:
        return SLOTS[slot][0 if self.app.current_theme.dark else 1]


def _thinned(
    trace: Trace, picture: OverlayPicture, columns: int
) -> tuple[list[float], list[float]]:
    """Few enough points to draw, those that cannot be drawn as NaN, on the picture's scale."""
    columns = max(10, columns)
    if picture.axis == "KL":
        # A run goes to and fro in KL: its way is kept in the order of its steps.
        stride = max(1, math.ceil(len(trace.xs) / columns))
        picked = list(range(len(trace.xs) - 1, -1, -stride))[::-1]
        pairs = [(trace.xs[i], trace.ys[i]) for i in picked]
        kept = [(x, y if drawable(y) else NAN) for x, y in pairs if drawable(x)]
        xs, ys = [x for x, _ in kept], [y for _, y in kept]
    else:
        xs, ys = Columns(picture.low, picture.high, columns).thin(trace.xs, trace.ys)
    return xs, [log_floor(y) if picture.log and not math.isnan(y) else y for y in ys]


def y_ends(lines: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """The ends of a y axis that shows all of these lines; None if there is nothing to show."""
    values = [y for ys in lines for y in ys if drawable(y)]
    if not values:
        return None
    return ticks.with_air(min(values), max(values))


def shared_ends(picture: OverlayPicture) -> tuple[float, float] | None:
    """The ends of the y axis that the traces of one picture need when each gets its own chart."""
    return y_ends([_thinned(trace, picture, 400)[1] for trace in picture.traces])


def can_be_log(traces: Sequence[Trace]) -> bool:
    """Whether a logarithmic axis would show most of what there is."""
    values = [y for trace in traces for y in trace.ys if drawable(y)]
    return sum(y > LOG_FLOOR for y in values) * 2 > len(values)


def _places(
    trace: Trace, xs: Sequence[float], ys: Sequence[float], picture: OverlayPicture, width: int
) -> list[tuple[float, float]]:
    """Where a trace's letter stands: at its end, and on its way at places of its slot's own."""
    seen = [(x, y) for x, y in zip(xs, ys, strict=True) if not math.isnan(y)]
    if not seen:
        return []
    if trace.points:
        return seen[:: max(1, len(seen) // max(4, width // 4))] + seen[-1:]
    apart = picture.axis == "KL" or len(picture.traces) < 2
    places = [] if apart else [seen[int(len(seen) * (trace.slot + k) / 9)] for k in (1, 5)]
    return [*places, seen[-1]]


def on_any_ground(drawn: Text) -> Text:
    """The drawing without its ground, and with axes in the terminal's own colour.

    Of a theme that leaves both to the terminal plotext would make black on black.
    """
    shown = Text(drawn.plain, no_wrap=True, end="")
    for start, end, style in drawn.spans:
        if isinstance(style, Style) and style.color and style.color.triplet != (0, 0, 0):
            shown.stylize(Style(color=style.color, bold=style.bold), start, end)
    return shown
