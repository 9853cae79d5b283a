"""What an import found in the files it was given: each row is imported, a duplicate, of an erased shopper, or
rejected with a reason."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson

from feature_repo.schema import SECOND


@dataclass(frozen=True)
class TableCounts:
    """What became of the rows of one file; imported + duplicates + erased + rejected == rows."""

    file: str
    rows: int
    imported: int
    duplicates: int
    erased: int  # of shoppers who were erased since
    rejected_by_reason: dict[str, int]
    ignored_columns: tuple[str, ...]

    @property
    def rejected(self) -> int:
        """Rows with a reason against them."""
        return sum(self.rejected_by_reason.values())


@dataclass(frozen=True)
class QualityReport:
    """What an import did. Times are the file's own, in microseconds since 1970, UTC."""

    events: TableCounts | None
    items: TableCounts | None
    users: TableCounts | None
    items_from_events: int
    first_event: int | None
    last_event: int | None
    shifted_by: int  # microseconds added to each event's time
    shoppers: int
    distinct_items: int
    event_types: dict[str, int]
    warnings: tuple[str, ...]  # what was imported, but looks as if the map were wrong
    folder: Path  # where report.json and the rejected rows are

    def to_json(self) -> bytes:
        """Indented JSON with every figure of the report, times as ISO text."""
        content = asdict(self) | {
            "folder": str(self.folder),
            "first_event": iso(self.first_event),
            "last_event": iso(self.last_event),
        }
        return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def to_text(self) -> str:
        """Short table for a person."""
        lines = []
        if self.events is not None:
            lines += _count_lines("events", self.events)
            lines += [("  " + name, f"{count:,}") for name, count in self.event_types.items()]
            lines += [("shoppers", f"{self.shoppers:,}"), ("items", f"{self.distinct_items:,}")]
        if self.first_event is not None and self.last_event is not None:
            lines += [
                ("first event", iso(self.first_event) or ""),
                ("last event", iso(self.last_event) or ""),
            ]
        if self.shifted_by:
            lines.append(("moved later by", f"{self.shifted_by / SECOND / 86_400:,.1f} days"))
        if self.items_from_events:
            lines.append(("catalog rows from events", f"{self.items_from_events:,}"))
        for section, counts in (("items", self.items), ("users", self.users)):
            if counts is not None:
                lines += _count_lines(section, counts)
        lines += [("warning", warning) for warning in self.warnings]
        lines.append(("report and rejected rows", str(self.folder)))
        width = max(len(label) for label, _ in lines)
        return "\n".join(f"{label:<{width}}  {value}" for label, value in lines)


def _count_lines(section: str, counts: TableCounts) -> list[tuple[str, str]]:
    lines = [
        (f"{section} file", counts.file),
        ("  rows", f"{counts.rows:,}"),
        ("  imported", f"{counts.imported:,}"),
        ("  duplicates", f"{counts.duplicates:,}"),
        ("  rejected", f"{counts.rejected:,}"),
    ]
    if counts.erased:
        lines.append(("  of erased shoppers", f"{counts.erased:,}"))
    lines += [(f"    {reason}", f"{count:,}") for reason, count in counts.rejected_by_reason.items()]
    if counts.ignored_columns:
        lines.append(("  ignored columns", ", ".join(counts.ignored_columns)))
    return lines


def iso(microseconds: int | None) -> str | None:
    """ISO text, to the second, of microseconds since 1970, UTC."""
    return None if microseconds is None else f"{np.datetime64(microseconds, 'us').astype('datetime64[s]')}Z"
