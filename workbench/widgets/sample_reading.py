"""One sample to read: its prompt, its tokens with their figures, or how it differs from another."""

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from rlhf_engine.runs.reader import SampleRow
from workbench.samples_feed import SampleView
from workbench.token_colours import Figure, modes_of, scale_of, token_values
from workbench.widgets.response_words import (
    difference,
    prompt_words,
    response_figures,
    response_title,
)
from workbench.widgets.token_figures import legend, token_lines
from workbench.widgets.token_text import TokenText


class SampleReading(Vertical):
    """Keeps the cursor's token and the colours while the samples change."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._view = SampleView()
        self._marked: SampleRow | None = None
        self._token = 0
        self._mode = "log-ratio"
        self._glyphs = False

    def compose(self) -> ComposeResult:
        yield Static(id="prompt")
        yield TokenText(id="response")
        with VerticalScroll(id="diff", can_focus=False):
            yield Static()
        yield Static(id="legend")
        yield Static(id="figures")

    def show(self, view: SampleView, marked: SampleRow | None) -> None:
        """Show a view's sample; with a marked one, the words in which they differ."""
        self._view, self._marked = view, marked
        if view.sample is not None:
            self._token = min(self._token, max(0, len(view.sample.sample.pieces) - 1))
        self._draw()

    def _draw(self) -> None:
        row, response = self._view.sample, self.query_one(TokenText)
        self.set_class(row is not None and self._marked is not None, "-diff")
        self._static("prompt").update(prompt_words(row))
        if row is None:
            response.clear()
            response.border_title, response.border_subtitle = "response", ""
            self._static("legend").update("")
            self._static("figures").update("")
            return
        figure = self._figure(row)
        response.show(row.sample, self._token if row.sample.pieces else None, figure, self._glyphs)
        response.border_title = Content(response_title(row))
        response.border_subtitle = Content(response_figures(row))
        told = legend(figure, self._view.whitened) if row.sample.pieces else ""
        self._static("legend").update(Content(told))
        lines = token_lines(row.sample, self._view.rewards, self._token)
        self._static("figures").update(Content("\n".join(lines)))
        if self._marked is not None:
            box = self.query_one("#diff", VerticalScroll)
            box.border_title = Content(f"from step {self._marked.step} to step {row.step}")
            box.query_one(Static).update(difference(self._marked, row))

    def _static(self, name: str) -> Static:
        return self.query_one(f"#{name}", Static)

    def _figure(self, row: SampleRow) -> Figure:
        rewards = self._view.rewards
        mode = self._mode if self._mode in modes_of(row.sample, rewards) else "none"
        values = token_values(row.sample, rewards, mode)
        return Figure(mode, values, self._view.scales.get(mode) or scale_of(values))

    def go_to(self, token: int) -> None:
        """Put the cursor on a token, or on the nearest one that there is."""
        if (row := self._view.sample) is not None:
            self._token = max(0, min(len(row.sample.pieces) - 1, token))
            self._draw()

    def go(self, by: int) -> None:
        self.go_to(self._token + by)

    def go_to_extreme(self, way: int) -> str:
        """To the next token with an extreme figure, round the end; why not, if there is none."""
        if (row := self._view.sample) is None:
            return ""
        figure = self._figure(row)
        count = len(row.sample.pieces) if figure.values else 0
        places = ((self._token + way * n) % count for n in range(1, count + 1))
        found = next((place for place in places if figure.extreme(place)), None)
        if found is not None:
            self.go_to(found)
            return ""
        none = figure.mode == "none"
        return "v colours by a figure first" if none else f"no extreme {figure.mode} here"

    def next_colours(self) -> str:
        """Colour by the next recorded figure; why not, if there is none."""
        if (row := self._view.sample) is None:
            return ""
        modes = modes_of(row.sample, self._view.rewards)
        place = modes.index(self._mode) if self._mode in modes else 0
        self._mode = modes[(place + 1) % len(modes)]
        self._draw()
        only = len(modes) == 1
        return "no figures of single tokens are recorded for this sample" if only else ""

    def toggle_glyphs(self) -> None:
        self._glyphs = not self._glyphs
        self._draw()

    def scroll_text(self, way: int) -> None:
        """Half a page of the response, or of the difference."""
        box = self.query_one("#diff" if self.has_class("-diff") else "#response")
        box.scroll_relative(y=way * max(1, box.size.height // 2), animate=False)
