"""The archive: every event that was ever logged or imported, as Parquet in one folder per event date.

    archive/event_date=2025-06-01/compacted.parquet        what the last compaction left
    archive/event_date=2025-06-01/append-<hash>.parquet    what came since
    archive/.erased/                                       tombstones of the shoppers that were erased

A file appears whole or not at all. Appending may bring an event twice; compaction leaves each
``event_id`` once. What it leaves depends on the set of rows alone, not on their order or batches.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from feature_repo.distinct_events import (
    KEYS,
    dates_with_repeats,
    days_of,
    distinct,
    name_of_day,
    rows_lost_to_another_date,
)
from feature_repo.durable_file import replace_file, sync, to_parquet, write_synced
from feature_repo.erasure import Erasure, Trace, covered
from feature_repo.errors import InputError
from feature_repo.schema import DAY, EVENT_SCHEMA, Event, EventType, shopper_key
from feature_repo.tombstones import Tombstones

_COMPACTED: Final = "compacted.parquet"
_PERSONAL: Final = [Event.USER, Event.VISITOR, Event.TIMESTAMP, Event.ARRIVAL]
_TRACED: Final = [Event.ID, Event.TYPE, Event.ITEM, *_PERSONAL]
_EVENT_ORDER: Final = [(Event.TIMESTAMP, "ascending"), (Event.ID, "ascending")]


@dataclass(frozen=True)
class CompactionReport:
    """What a compaction found and did."""

    events: int  # distinct events that the archive now holds
    duplicates_removed: int
    dates_rewritten: tuple[str, ...]  # YYYY-MM-DD


class Archive:
    """Event log on disk under ``root``; several processes may append, compact and read at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tombstones = Tombstones(root)
        # Reading takes it too: a date's files change in several steps while it is compacted.
        self._lock = FileLock(root / ".lock")

    def append(self, events: pa.Table) -> None:
        """Add events, a table of EVENT_SCHEMA in any order; appending one table twice leaves one copy.

        What happened before its shopper was erased stays out. All files are on disk before the first shows.
        Raises InputError when the schema is another.
        """
        _require_event_schema(events)
        with self._lock:
            events = self.tombstones.without_erased(events)
            staging = self._empty_staging()
            files: list[tuple[Path, Path]] = []
            for date, rows in _by_date(events):
                content = to_parquet(rows)
                name = f"append-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
                write_synced(staging / f"{date}-{name}.tmp", content)
                files.append((staging / f"{date}-{name}.tmp", self._folder(date) / name))
            for staged, target in files:
                target.parent.mkdir(exist_ok=True)
                staged.replace(target)
                sync(target.parent)
            sync(self.root)

    def compact(self) -> CompactionReport:
        """Leave each event_id once in the whole archive, and one file per date sorted by (timestamp, event_id).

        Of rows with one event_id the smallest by (arrival_time, timestamp, the other columns) stays, whatever
        its date. Dates that are so already keep their file. Stopped half-way, it has lost nothing, and the
        next run ends the work.
        """
        with self._lock:
            dates = self._dates()
            keys = self._keys(dates)
            lost = rows_lost_to_another_date(keys)
            untidy = {date for date in dates if self._files(date) != [self._folder(date) / _COMPACTED]}
            rewritten = tuple(sorted(untidy | set(lost) | dates_with_repeats(keys)))
            for date in rewritten:
                gone = lost.get(date, pa.array([], pa.string()))
                self._rewrite(date, partial(_without_ids, ids=gone))
            events = len(self)
        return CompactionReport(events, keys.num_rows - events, rewritten)

    def read(
        self, start: int | None = None, end: int | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Events with start <= timestamp < end (microseconds, UTC), sorted by (timestamp, event_id).

        Only the dates of the range are opened. An event stands once per date; one that came with two dates
        stands twice until the next compaction.
        """
        chosen = list(EVENT_SCHEMA.names if columns is None else columns)
        parts = [EVENT_SCHEMA.empty_table().select(chosen)]
        with self._lock:
            for date in self._dates():
                first = _first_microsecond(date)
                if (end is not None and first >= end) or (start is not None and first + DAY <= start):
                    continue
                rows = self._rows(date, [*chosen, Event.TIMESTAMP])
                parts.append(_between(rows, start, end).select(chosen))
        return pa.concat_tables(parts)

    def visitors_of(self, user_id: str) -> set[str]:
        """The visitors that some event ties to a user."""
        found: set[str] = set()
        with self._lock:
            for _, rows in self._personal([Event.USER, Event.VISITOR]):
                theirs = rows.filter(pc.equal(rows[Event.USER], user_id))[Event.VISITOR]
                found.update(pc.unique(theirs).drop_null().to_pylist())
        return found

    def traces(self, erasure: Erasure) -> list[Trace]:
        """What the events that an erasure covers may have left online."""
        with self._lock:
            parts = [rows.filter(_covered([erasure], rows)) for _, rows in self._personal(_TRACED)]
        rows = pa.concat_tables([EVENT_SCHEMA.empty_table().select(_TRACED), *parts])
        impression = pc.equal(rows[Event.TYPE], EventType.IMPRESSION)
        shown = pc.if_else(impression, rows[Event.ITEM], None).to_pylist()
        names = zip(rows[Event.USER].to_pylist(), rows[Event.VISITOR].to_pylist(), strict=True)
        times = rows[Event.TIMESTAMP].cast(pa.int64()).to_pylist()
        return [
            Trace(event_id, shopper_key(*name), item_id, timestamp)
            for event_id, name, item_id, timestamp in zip(
                rows[Event.ID].to_pylist(), names, shown, times, strict=True
            )
        ]

    def erase(self, erasures: Sequence[Erasure]) -> int:
        """Remove what erasures cover, and what killed writers left behind; returns how many rows went."""
        with self._lock:
            self._empty_staging()
            for leftover in self.root.glob("event_date=*/.*.tmp"):
                leftover.unlink()
            counts: dict[str, int] = {}
            for date, rows in self._personal(_PERSONAL):
                counts[date] = counts.get(date, 0) + int(np.count_nonzero(_covered(erasures, rows)))
            for date in [date for date, count in counts.items() if count]:
                self._rewrite(date, lambda rows: rows.filter(pc.invert(_covered(erasures, rows))))
        return sum(counts.values())

    def event_ids(self) -> pa.ChunkedArray:
        """Every event_id, in no order; those not yet compacted may stand twice."""
        with self._lock:
            return self._keys(self._dates())[Event.ID]

    def bounds(self) -> tuple[int, int] | None:
        """First and last timestamp in microseconds, from Parquet metadata alone; None when empty."""
        with self._lock:
            dates = self._dates()
            if not dates:
                return None
            first = min(low for low, _ in map(_timestamp_range, self._files(dates[0])))
            last = max(high for _, high in map(_timestamp_range, self._files(dates[-1])))
            return first, last

    def __len__(self) -> int:
        """Rows, from Parquet metadata alone; duplicates count until they are compacted."""
        with self._lock:
            files = (file for date in self._dates() for file in self._files(date))
            return sum(_open(file).metadata.num_rows for file in files)

    def _folder(self, date: str) -> Path:
        return self.root / f"event_date={date}"

    def _dates(self) -> list[str]:
        folders = (path for path in self.root.glob("event_date=*") if any(path.glob("*.parquet")))
        return sorted(path.name.removeprefix("event_date=") for path in folders)

    def _files(self, date: str) -> list[Path]:
        return sorted(self._folder(date).glob("[!._]*.parquet"))

    def _empty_staging(self) -> Path:
        """Folder for files that do not count yet; what a killed writer left there goes."""
        staging = self.root / ".staging"
        staging.mkdir(parents=True, exist_ok=True)
        for leftover in staging.iterdir():
            leftover.unlink()
        return staging

    def _keys(self, dates: list[str]) -> pa.Table:
        files = (file for date in dates for file in self._files(date))
        empty = EVENT_SCHEMA.empty_table().select(KEYS)
        return pa.concat_tables(
            [empty, *(_open(file).read(columns=list(KEYS)).select(KEYS) for file in files)]
        )

    def _rows(self, date: str, columns: list[str]) -> pa.Table:
        """Events of one date, distinct and sorted, with at least ``columns``."""
        files = self._files(date)
        if files == [self._folder(date) / _COMPACTED]:
            return _open(files[0]).read(columns=columns)
        return distinct(pa.concat_tables([_open(file).read() for file in files])).sort_by(_EVENT_ORDER)

    def _rewrite(self, date: str, select: Callable[[pa.Table], pa.Table]) -> None:
        """Make one file of those rows of a date's files that ``select`` leaves."""
        superseded = self._files(date)
        rows = distinct(select(pa.concat_tables([_open(file).read() for file in superseded])))
        compacted = self._folder(date) / _COMPACTED
        if rows.num_rows:
            replace_file(compacted, to_parquet(rows.sort_by(_EVENT_ORDER)))
            superseded = [file for file in superseded if file != compacted]
        for file in superseded:
            file.unlink()
        sync(self._folder(date))

    def _personal(self, columns: list[str]) -> Iterator[tuple[str, pa.Table]]:
        """Date and rows of every file."""
        for date in self._dates():
            for file in self._files(date):
                yield date, _open(file).read(columns=columns).select(columns)


def _require_event_schema(events: pa.Table) -> None:
    if events.schema.names != EVENT_SCHEMA.names:
        raise InputError(
            f"the archive takes the columns {', '.join(EVENT_SCHEMA.names)} in this order, "
            f"not {', '.join(events.schema.names)}: build the table with EVENT_SCHEMA"
        )
    for given, wanted in zip(events.schema, EVENT_SCHEMA, strict=True):
        if given.type != wanted.type:
            raise InputError(
                f"column {wanted.name} is {given.type}: the archive takes {wanted.type}, cast it"
            )
        if not wanted.nullable and events[wanted.name].null_count:
            raise InputError(f"column {wanted.name} has missing values: the archive takes none there")


def _without_ids(events: pa.Table, ids: pa.Array) -> pa.Table:
    return events.filter(pc.invert(pc.is_in(events[Event.ID], value_set=ids)))


def _covered(erasures: Sequence[Erasure], rows: pa.Table) -> pa.Array:
    """Mask of the rows, which have the columns _PERSONAL, that happened or arrived before their erasure."""
    times = pc.min_element_wise(*(rows[name].cast(pa.int64()) for name in (Event.TIMESTAMP, Event.ARRIVAL)))
    return pa.array(covered(erasures, rows[Event.USER], rows[Event.VISITOR], times.to_numpy()))


def _by_date(events: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Rows of each event date (UTC)."""
    days = days_of(events)
    order = np.argsort(days, kind="stable")
    rows = events.cast(EVENT_SCHEMA).combine_chunks().take(order)
    found, starts, counts = np.unique(days[order], return_index=True, return_counts=True)
    for day, first, count in zip(found, starts, counts, strict=True):
        yield name_of_day(day), rows.slice(first, count)


def _first_microsecond(date: str) -> int:
    return int(np.datetime64(date, "D").astype(np.int64)) * DAY


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise InputError(f"{file} is damaged ({error}): move it away and import its events again") from error


def _timestamp_range(file: Path) -> tuple[int, int]:
    """First and last timestamp of a file in microseconds, from its metadata."""
    metadata = _open(file).metadata
    column = EVENT_SCHEMA.get_field_index(Event.TIMESTAMP)
    ranges = [metadata.row_group(group).column(column).statistics for group in range(metadata.num_row_groups)]
    return min(range_.min_raw for range_ in ranges), max(range_.max_raw for range_ in ranges)


def _between(rows: pa.Table, start: int | None, end: int | None) -> pa.Table:
    """Part of sorted rows with start <= timestamp < end."""
    times = rows[Event.TIMESTAMP].cast(pa.int64()).to_numpy()
    first = 0 if start is None else int(np.searchsorted(times, start))
    last = len(times) if end is None else int(np.searchsorted(times, end))
    return rows.slice(first, max(last - first, 0))
