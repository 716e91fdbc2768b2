"""The raster draws what plotext draws, cell for cell."""

import math
import random
import re

import plotext
import pytest

from workbench.widgets import ticks
from workbench.widgets.raster import Raster

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)
LOW, HIGH, LAST = -6.2, 6.3, 1000


@pytest.mark.parametrize("seed", range(20))
def test_random_pictures_look_as_plotext_draws_them(seed: int) -> None:
    draw = random.Random(seed)
    width, height = draw.randint(20, 79), draw.randint(5, 21)
    count = draw.choice([2, 5, 60, 300])
    xs = sorted(draw.uniform(0, LAST) for _ in range(count))
    wild = [math.nan if draw.random() < 0.05 else draw.gauss(0, 3) for _ in xs]
    smooth = [4 * math.sin(x / 90) for x in xs]
    upright = [draw.uniform(0, LAST) for _ in range(3)]
    up = ticks.linear(LOW, HIGH, max(2, height - 3))
    along = ticks.steps(0, LAST, max(2, width // 8))

    plotext.clear_figure()
    plotext.plotsize(width, height)
    plotext.xaxes(True, False)
    plotext.yaxes(True, False)
    plotext.xlim(0, LAST)
    plotext.ylim(LOW, HIGH)
    plotext.yticks(*up)
    plotext.xticks(*along)
    plotext.hline(1.0, color=RED)
    ours = Raster((0, LAST), (LOW, HIGH), along, up)
    ours.hline(1.0, RED)
    for x in upright:
        plotext.vline(x, color=GREEN)
        ours.vline(x, GREEN)
    for ys in (wild, smooth):
        plotext.plot(xs, ys, marker="braille", color=BLUE)
        ours.plot(xs, ys, BLUE)
    plotext.scatter(xs[:2], smooth[:2], marker="•", color=GREEN)
    ours.scatter(xs[:2], smooth[:2], "•", GREEN)
    plotext.text("β0.08", upright[0], HIGH, color=RED, alignment="left")
    ours.text("β0.08", upright[0], HIGH, RED)
    plotext.text("▲", upright[1], LOW, color=RED, alignment="center")
    ours.text("▲", upright[1], LOW, RED, centred=True)

    theirs = re.sub(r"\x1b\[[0-9;]*m", "", plotext.build()).rstrip("\n").split("\n")
    drawn = ["".join(text for text, _ in row) for row in ours.rows(width, height)]
    assert [row.rstrip() for row in drawn] == [row.rstrip() for row in theirs]


def test_later_lines_cover_earlier_ones_in_their_own_colour() -> None:
    raster = Raster((0, 9), (0, 9))
    raster.plot([0, 9], [5, 5], RED)
    raster.plot([0, 9], [5, 5], BLUE)
    colors = {color for row in raster.rows(30, 10) for _, color in row}
    assert BLUE in colors
    assert RED not in colors
