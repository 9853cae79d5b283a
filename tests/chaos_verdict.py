"""What must hold of archive, windows and item counts after any traffic, whatever was killed meanwhile."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from feature_repo.archive import Archive
from feature_repo.event_log import EventLog, newest_links, window_event
from feature_repo.events import FIELD_NAMES, LoggedEvent
from feature_repo.item_activity import ACTIVITY_WINDOWS, counts_of
from feature_repo.redis_layout import count_field
from feature_repo.schema import Event, EventType, shopper_key
from feature_repo.session_window import WindowEvent, merge_windows

SHOWN: Final = 5
"""Differences of a kind that are spelled out."""


def archived_events(archive: Archive) -> list[LoggedEvent]:
    """Every event of an archive."""
    table = archive.read()
    for name in (Event.TIMESTAMP, Event.ARRIVAL):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast("int64"))
    return [LoggedEvent(**row) for row in table.select(FIELD_NAMES).to_pylist()]


def archive_differences(sent: Iterable[dict[str, Any]], archived: Sequence[LoggedEvent]) -> list[str]:
    """Lines that say how the archive differs from the distinct events that were acknowledged."""
    expected = {event[Event.ID]: event for event in sent}
    times = Counter(event.event_id for event in archived)
    changed = [
        event.event_id
        for event in archived
        if event.event_id in expected and _as_sent(event) != expected[event.event_id]
    ]
    return [
        *_line("acknowledged, but not in the archive", sorted(expected.keys() - times.keys())),
        *_line("in the archive, but never sent", sorted(times.keys() - expected.keys())),
        *_line("more than once in the archive", [event_id for event_id, n in times.items() if n > 1]),
        *_line("otherwise in the archive than it was sent", changed),
    ]


async def window_differences(log: EventLog, archived: Sequence[LoggedEvent], size: int) -> list[str]:
    """Lines that say how the windows of all shoppers differ from those that the archive gives."""
    parts: dict[str, list[WindowEvent]] = {}
    for event in archived:
        if event.event_type != EventType.IMPRESSION:
            parts.setdefault(event.shopper, []).append(window_event(event))
    links = {visitor: user for visitor, (_, _, user) in newest_links(archived).items()}
    users = {event.user_id for event in archived if event.user_id}
    visitors = {event.visitor_id for event in archived if event.visitor_id}
    wrong = []
    for user, visitor in [*((user, None) for user in users), *((None, visitor) for visitor in visitors)]:
        owner = user or links.get(visitor or "")
        keys = [shopper_key(user, visitor), *([shopper_key(owner, None)] if owner and visitor else [])]
        expected = merge_windows((event for key in keys for event in parts.get(key, [])), size)
        if (await log.shopper(user, visitor)).window != expected:
            wrong.append(keys[0])
    return _line("shoppers whose window is not that of the archive", wrong)


async def count_differences(log: EventLog, archived: Sequence[LoggedEvent]) -> list[str]:
    """Lines that say how the item counts that are not forgotten yet differ from those that the archive gives."""
    began = _now()
    buckets = [(window.name, start) for window in ACTIVITY_WINDOWS for start in window.starts(began)]
    found: Counter[tuple[str, int, str]] = Counter()
    for partition in range(log.partitions):
        for bucket, counts in zip(buckets, await log.item_counts(partition, buckets), strict=True):
            found.update({(*bucket, field): number for field, number in counts.items()})
    now = _now()
    forgotten = {w.name: w.starts(now)[0] for w in ACTIVITY_WINDOWS}  # while they were read
    expected = Counter(
        (count.window.name, count.start, count_field(count.event_type, count.item_id))
        for event in archived
        for count in counts_of(event, now)
    )
    wrong = [
        f"{field} in bucket {start} of {window}: {found[key]}, not {expected[key]}"
        for key in sorted(found.keys() | expected.keys())
        for window, start, field in [key]
        if start >= forgotten[window] and found[key] != expected[key]
    ]
    return _line("item counts that are not those of the archive", wrong)


def _as_sent(event: LoggedEvent) -> dict[str, Any]:
    columns = {name: getattr(event, name) for name in FIELD_NAMES if name != Event.ARRIVAL}
    return {name: value for name, value in columns.items() if value is not None}


def _line(what: str, wrong: Sequence[str]) -> list[str]:
    return [f"{len(wrong)} {what}: {', '.join(wrong[:SHOWN])}"] if wrong else []


def _now() -> int:
    return time.time_ns() // 1000
