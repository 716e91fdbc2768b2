"""The charts of the compare screen: one for all runs or one for each, and the KL frontier."""

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.content import Content

from workbench.board import SLOT_COUNT, Board
from workbench.lanes import Lane
from workbench.widgets import overlay_pictures as pictures
from workbench.widgets.overlay import Overlay, OverlayPicture


class CompareCharts(Horizontal):
    """Shows the lanes given to `show` as the board wants them."""

    DEFAULT_CSS = """
    CompareCharts {
        height: 1fr;
        #panels { width: 3fr; height: 1fr; }
        #frontier { width: 2fr; }
        &.-grid #panels { layout: grid; grid-size: 2; }
        &.-grid #frontier, &.-no-kl #frontier { display: none; }
    }
    """

    def compose(self) -> ComposeResult:
        with Container(id="panels"):
            for index in range(SLOT_COUNT):
                yield Overlay(id=f"panel-{index}")
        yield Overlay(id="frontier")

    def show(self, lanes: Sequence[Lane], board: Board) -> None:
        """Draw these runs."""
        dark = self.app.current_theme.dark
        picture = pictures.metric_picture(lanes, board)
        title = pictures.title(board, picture, lanes)
        metric = pictures.chosen_metric(board, lanes)
        split = board.grid and len(lanes) > 1
        self.set_class(split, "-grid")
        for index in range(SLOT_COUNT):
            self._panel(index).display = index < (len(lanes) if split else 1)
        if split:
            self._show_each(lanes, picture, title, metric)
        else:
            self._panel(0).show(picture, title, pictures.legend(lanes, metric, dark))
        self._show_frontier(lanes, board)

    def _panel(self, index: int) -> Overlay:
        return self.query_one(f"#panel-{index}", Overlay)

    def _show_each(
        self, lanes: Sequence[Lane], picture: OverlayPicture, title: Content, metric: str
    ) -> None:
        dark = self.app.current_theme.dark
        singles = pictures.single_pictures(picture, [lane.slot for lane in lanes])
        for index, (lane, single) in enumerate(zip(lanes, singles, strict=True)):
            named = pictures.single_title(lane, dark)
            if index == 0:
                named = Content.assemble(named, " · ", title)
            self._panel(index).show(single, named, pictures.legend([lane], metric, dark))

    def _show_frontier(self, lanes: Sequence[Lane], board: Board) -> None:
        picture = pictures.frontier_picture(lanes)
        self.set_class(not picture.traces, "-no-kl")
        gold = any(trace.points for trace in picture.traces)
        words = ["score ━", *(["gold abcd"] if gold else []), "over √KL"]
        title = Content(" · ".join(words + pictures.smoothed(board)))
        legend = pictures.legend(
            lanes, "gold" if gold else "score", self.app.current_theme.dark, "gold " if gold else ""
        )
        self.query_one("#frontier", Overlay).show(picture, title, legend)
