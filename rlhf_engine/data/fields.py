"""One row seen through our field names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlhf_engine.data.errors import DataError
from rlhf_engine.data.messages import Unusable
from rlhf_engine.data.sources import Row

# Our field name -> the column names that mean it, in order of preference.
COLUMNS = {
    "messages": ("messages", "conversations"),
    "prompt": ("prompt", "question", "instruction"),
    "completion": ("completion", "response", "output", "answer", "label"),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "text": ("text",),
}
EMPTY = {
    "messages": "there are no messages",
    "prompt": "the prompt is empty",
    "completion": "the answer is empty",
    "chosen": "chosen is empty",
    "rejected": "rejected is empty",
    "text": "the text is empty",
}


@dataclass(frozen=True)
class Fields:
    """The values of a row by column, and where it was stored."""

    where: str
    values: Mapping[str, Any]

    def column(self, ours: str) -> str | None:
        """Column that holds the field, rather one with a value; `label` counts only as text."""
        there = [
            name
            for name in COLUMNS[ours]
            if name in self.values and (name != "label" or isinstance(self.values[name], str))
        ]
        filled = [name for name in there if self.values[name] is not None]
        return next(iter(filled + there), None)

    def need(self, ours: str) -> tuple[Any, str, str]:
        """Value, column and place of a field; an error that names the keys present without it."""
        name = self.column(ours)
        if name is None:
            raise DataError(
                f"{self.where}: no {' or '.join(map(repr, COLUMNS[ours]))} here; the keys are "
                f"{names(self.values)}. Set `format`, or map a column under `columns`"
            )
        if self.values[name] is None:
            raise Unusable(EMPTY[ours])
        return self.values[name], name, self.where


def check_mapping(columns: Mapping[str, str], where: str) -> None:
    """Refuse a mapping of a field that we do not have."""
    for ours in columns:
        if ours not in COLUMNS:
            raise DataError(
                f"{where}: `columns` names {ours!r}, which is none of our fields. "
                f"Use {', '.join(COLUMNS)}"
            )


def view(row: Row, columns: Mapping[str, str] | None) -> Fields:
    """See a row with `columns` (our field name -> their column) applied."""
    values = dict(row.fields)
    for ours, theirs in (columns or {}).items():
        if theirs not in row.fields:
            raise DataError(
                f"{row.where}: `columns` maps {ours} to {theirs!r}, but the keys are "
                f"{names(row.fields)}. Correct the mapping or the row"
            )
        # The mapped column must win over every other name of the field.
        values = {k: v for k, v in values.items() if k not in COLUMNS[ours]}
        values[ours] = row.fields[theirs]
    return Fields(row.where, values)


def names(fields: Mapping[str, Any]) -> str:
    """List the keys of a row for an error."""
    return ", ".join(map(repr, fields)) or "none"
