"""The session window: the raw last N events of a shopper, and what is computed from them.

Merging is "keep the newest N by (timestamp, event_id)" of a set union. That is commutative,
associative and idempotent, so duplicates and reordering cannot corrupt a window.
"""

from collections.abc import Iterable

from msgspec import Struct


class WindowEvent(Struct, frozen=True, array_like=True):
    """One event of a window. A request makes a window of them: no tuple with names is made as fast."""

    timestamp: int  # microseconds since 1970, UTC
    event_id: str
    event_type: str
    item_id: str | None = None
    query: str | None = None
    quantity: float | None = None
    price: float | None = None
    value: float | None = None


def merge_windows(events: Iterable[WindowEvent], size: int) -> list[WindowEvent]:
    """Newest ``size`` distinct events in event-time order, oldest first; one event per event_id and time."""
    distinct = {(event.timestamp, event.event_id): event for event in events}
    return [distinct[key] for key in sorted(distinct)[-size:]]
