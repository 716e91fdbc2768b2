"""The newest responses: one line each, the full text on enter."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import BindingType
from textual.widgets import DataTable

from rlhf_engine.runs.reader import SampleRow
from workbench.commands.text import clip
from workbench.format import short
from workbench.keys import LIST_KEYS, bindings

SHOWN = 50


class SampleTable(DataTable[Text]):
    """Newest first; cells are plain text, whatever the model wrote."""

    DEFAULT_CSS = """
    SampleTable { border: round $panel; }
    SampleTable:focus { border: round $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(LIST_KEYS)]

    def __init__(self, id: str) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False)
        self.border_title = "samples · newest first"
        self._shown: tuple[object, ...] = ()
        self._rows: dict[str, SampleRow] = {}

    def show(self, samples: Sequence[SampleRow]) -> None:
        """Fill the table anew if there is something new; the cursor stays on its sample."""
        width = self.size.width
        key = (width, samples[0].seq if samples else 0, len(samples))
        if key == self._shown or width < 20:
            return
        self._shown = key
        chosen = self.chosen
        at_top = self.cursor_row == 0
        self.clear(columns=True)
        text = width - 38
        for label, cells in (("step", 6), ("score", 8), ("KL", 7), ("prompt", text * 2 // 5)):
            self.add_column(Text(label), width=cells)
        self.add_column(Text("response"), width=text - text * 2 // 5)
        self._rows = {str(row.seq): row for row in samples[:SHOWN]}
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
        Text(short(sample.score), justify="right"),
        Text(short(sample.kl), justify="right"),
        Text(clip(sample.prompt, width * 2 // 5)),
        Text(clip(sample.response, width - width * 2 // 5)),
    ]
