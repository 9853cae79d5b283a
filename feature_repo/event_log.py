"""The event log: where events are acknowledged, and from where windows and the archive are fed.

The log is kept in Redis (redis_event_log) or, for tests and replays, in memory (memory_event_log).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self
from zlib import crc32

from feature_repo.catalog_changes import CatalogLog
from feature_repo.erasure import Erasure, Removed, Trace
from feature_repo.events import LoggedEvent
from feature_repo.log_reader import LogReader
from feature_repo.online_user import OnlineUser
from feature_repo.schema import EventType, shopper_key
from feature_repo.session_window import WindowEvent, merge_windows


class Verdict(StrEnum):
    """What became of an event that was appended."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    SHED = "shed"  # not taken, because the log is nearly full
    ERASED = "erased"
    """Dropped: it happened before its shopper was erased."""


@dataclass(frozen=True, slots=True)
class Shopper:
    """What is known online of a shopper.

    ``user_id`` is the user, given or found by the visitor's link; ``window`` the newest events, oldest first;
    ``exposures`` maps an item_id to when it was last shown, in microseconds since 1970, UTC; ``features`` are the
    batch features last brought online for the user, or else for the visitor, if any were.
    """

    user_id: str | None
    window: list[WindowEvent]
    exposures: dict[str, int]
    features: OnlineUser | None = None

    @classmethod
    def union(
        cls,
        user_id: str | None,
        parts: Iterable[tuple[Iterable[WindowEvent], dict[str, int]]],
        window_size: int,
        features: OnlineUser | None = None,
    ) -> Self:
        """One shopper from the (window, exposures) of a visitor and of a user."""
        events: list[WindowEvent] = []
        latest: dict[str, int] = {}
        for window, exposures in parts:
            events.extend(window)
            for item_id, shown in exposures.items():
                latest[item_id] = max(shown, latest.get(item_id, shown))
        return cls(user_id, merge_windows(events, window_size), latest, features)


class EventLog(Protocol):
    """A partitioned log of events that also keeps each shopper's session window.

    Every method raises LogUnavailableError when the log cannot be reached or is full.
    """

    @property
    def partitions(self) -> int:
        """Number of partitions; they count from 0."""

    async def append(self, events: Sequence[LoggedEvent]) -> list[Verdict]:
        """Log events, each once per event_id and partition; verdicts come in the order of the events.

        Within a partition it happens wholly or not at all. After an error some partitions may hold their
        events: append the same events again. Raises ValueError, and logs nothing, when an event names no
        shopper or an impression no item.
        """

    async def shopper(self, user_id: str | None, visitor_id: str | None) -> Shopper:
        """Newest events of the user and the visitor together; a visitor alone is followed to its user.

        In the same round trip come the batch features that were materialized for the shopper.
        """

    def reader(self, group: str, consumer: str) -> LogReader:
        """The reading side, as one consumer of one group; it ends with the log."""

    def letters(self, group: str) -> LogReader:
        """The dead letters of a group, read as if they were the log: those it acknowledges are gone."""

    async def item_counts(self, partition: int, buckets: Sequence[tuple[str, int]]) -> list[dict[str, int]]:
        """Of each bucket, given by the name of its window and its start: the events by TYPE:ITEM."""

    @property
    def catalog(self) -> CatalogLog:
        """The changes of the catalog."""

    async def publish_activity(self, message: bytes) -> None:
        """Put a message about the items' activity in the place of the one before, for MESSAGE_SECONDS."""

    async def published_activity(self) -> bytes | None:
        """The message that was last published; None where it holds no longer."""

    async def fullness(self) -> float:
        """Share of the memory that the log may take that is taken; 0 without a limit."""

    async def visitors_of(self, user_id: str) -> set[str]:
        """The visitors that a stored link or an event of the log ties to a user."""

    async def erase(self, erasure: Erasure, archived: Iterable[Trace] = ()) -> Removed:
        """Remove what an erasure covers of entries, letters, windows, exposures, links and marks, and all features.

        ``archived`` are the traces of events that have left the log. Doing it twice is doing it once.
        """

    async def ping(self) -> None:
        """Return if the log answers."""

    async def aclose(self) -> None:
        """Let go of all connections."""


def partition_of(key: str, partitions: int) -> int:
    """Partition of a shopper key, from 0."""
    return crc32(key.encode()) % partitions


def window_event(event: LoggedEvent) -> WindowEvent:
    """What a window keeps of an event."""
    return WindowEvent(
        event.timestamp,
        event.event_id,
        event.event_type,
        event.item_id,
        event.query,
        event.quantity,
        event.price,
        event.value,
    )


def require_complete(events: Iterable[LoggedEvent]) -> None:
    """Raise ValueError for an event that names no shopper or an impression that names no item."""
    for event in events:
        shopper_key(event.user_id, event.visitor_id)
        if event.event_type == EventType.IMPRESSION and not event.item_id:
            raise ValueError(f"impression {event.event_id!r} needs an item_id")


def newest_links(events: Iterable[LoggedEvent]) -> dict[str, tuple[int, str, str]]:
    """Newest (timestamp, event_id, user_id) of each visitor that an event ties to a user."""
    links: dict[str, tuple[int, str, str]] = {}
    for event in events:
        if event.visitor_id and event.user_id:
            link = (event.timestamp, event.event_id, event.user_id)
            links[event.visitor_id] = max(link, links.get(event.visitor_id, link))
    return links
