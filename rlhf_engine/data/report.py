"""What became of the rows: read, kept, left out and why."""

from dataclasses import dataclass, field

FIRST_PLACES = 3


@dataclass
class Dropped:
    """Rows left out for one reason."""

    count: int = 0
    first: list[str] = field(default_factory=list)
    """The first three places, as `file:row`."""

    def places(self) -> str:
        """The first places, and dots where there are more."""
        return ", ".join(self.first + ["..."] * (self.count > len(self.first)))


@dataclass
class Report:
    """Count of rows read, kept and left out by reason."""

    format: str
    rows: int
    kept: int = 0
    dropped: dict[str, Dropped] = field(default_factory=dict)

    def drop(self, reason: str, where: str) -> None:
        """Count a row that is left out."""
        entry = self.dropped.setdefault(reason, Dropped())
        entry.count += 1
        if len(entry.first) < FIRST_PLACES:
            entry.first.append(where)

    def lines(self) -> list[str]:
        """Say it to a person: the total, then one line for each reason."""
        reasons = sorted(self.dropped.items(), key=lambda item: -item[1].count)
        return [f"{self.kept:,} of {self.rows:,} rows kept (format {self.format})"] + [
            f"{dropped.count:,} left out: {reason} ({dropped.places()})"
            for reason, dropped in reasons
        ]
