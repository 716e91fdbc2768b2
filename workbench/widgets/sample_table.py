"""The newest responses: one line each, the full text on enter."""

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import BindingType
from textual.widgets import DataTable

from rlhf_engine.runs.reader import SampleRow
from workbench.commands.text import clip
from workbench.feed import redraw_seconds
from workbench.format import within
from workbench.keys import LIST_KEYS, bindings

MIN_SHOWN = 8
# A table is only filled as a whole, which costs as much as all else that a redraw does: so not as
# often, and not at the same time, since a key that is pressed meanwhile has to wait.
REFILL_SECONDS = 1.0


class SampleTable(DataTable[Text]):
    """Newest first; cells are plain text, whatever the model wrote."""

    DEFAULT_CSS = """
    SampleTable { border: round $panel; border-title-color: $foreground; }
    SampleTable:focus { border: round $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(LIST_KEYS)]

    def __init__(self, id: str) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False)
        self.border_title = "samples · newest first"
        self._look: tuple[int, bool] = (0, False)
        self._shown = (0, 0)
        self._rows: dict[str, SampleRow] = {}
        self._newest: Sequence[SampleRow] = ()
        self._filled = 0.0
        self._due = False

    def show(self, samples: Sequence[SampleRow]) -> None:
        """Show these samples, new ones at most once a second; the cursor stays on its sample."""
        self._newest = samples
        look = (self.size.width, self.has_focus)
        if look != self._look:
            self._fill()
        elif self._key != self._shown and not self._due:
            self._due = True
            wait = self._filled + REFILL_SECONDS - time.monotonic()
            self.set_timer(max(wait, redraw_seconds() / 2), self._fill_due)

    @property
    def _key(self) -> tuple[int, int]:
        """What tells whether there are other samples than before."""
        return self._newest[0].seq if self._newest else 0, len(self._newest)

    def _fill_due(self) -> None:
        self._due = False
        self._fill()

    def _fill(self) -> None:
        samples, width = self._newest, self.size.width
        if width < 20:
            return
        self._look, self._shown = (width, self.has_focus), self._key
        self._filled = time.monotonic()
        chosen = self.chosen
        at_top = self.cursor_row == 0
        self.clear(columns=True)
        text = width - 38
        for label, cells in (("step", 6), ("score", 8), ("KL", 7), ("prompt", text * 2 // 5)):
            self.add_column(Text(label), width=cells)
        self.add_column(Text("response"), width=text - text * 2 // 5)
        # Nobody scrolls a table that is not focused: then what is in sight is enough.
        shown = len(samples) if self.has_focus else max(MIN_SHOWN, self.size.height)
        self._rows = {str(row.seq): row for row in samples[:shown]}
        for name, row in self._rows.items():
            self.add_row(*_cells(row, text), key=name)
        if chosen and not at_top and str(chosen.seq) in self._rows:
            self.move_cursor(row=list(self._rows).index(str(chosen.seq)))

    @property
    def chosen(self) -> SampleRow | None:
        """The sample under the cursor."""
        if not 0 <= self.cursor_row < len(self._rows):
            return None
        return list(self._rows.values())[self.cursor_row]


def _cells(row: SampleRow, width: int) -> list[Text]:
    sample = row.sample
    return [
        Text(str(row.step), justify="right"),
        Text(within(sample.score, 8), justify="right"),
        Text(within(sample.kl, 7), justify="right"),
        Text(clip(sample.prompt, width * 2 // 5)),
        Text(clip(sample.response, width - width * 2 // 5)),
    ]
