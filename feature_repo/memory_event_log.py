"""The event log in the memory of one process, for tests and replays.

It keeps the promises of EventLog but one: nothing expires, neither windows nor dedup marks.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

from feature_repo.event_log import (
    Shopper,
    Verdict,
    newest_links,
    partition_of,
    require_complete,
    window_event,
)
from feature_repo.events import LoggedEvent
from feature_repo.online_user import OnlineUser
from feature_repo.schema import EventType, shopper_key
from feature_repo.session_window import WindowEvent, merge_windows
from feature_repo.settings import Settings

_Reader = tuple[str, int]  # a group and a partition


class MemoryEventLog:
    """An event log that ends with its process; ``features`` stands for what materialization brought online."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._streams: list[dict[int, LoggedEvent]] = [{} for _ in range(settings.log_partitions)]
        self._seen: list[set[str]] = [set() for _ in range(settings.log_partitions)]
        self._windows: dict[str, list[WindowEvent]] = {}
        self._exposures: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._links: dict[str, tuple[int, str, str]] = {}
        self.features: dict[str, OnlineUser] = {}
        self._appended = 0
        self._delivered: dict[_Reader, int] = {}
        self._pending: defaultdict[_Reader, dict[int, str]] = defaultdict(dict)

    @property
    def partitions(self) -> int:
        """Number of partitions; they count from 0."""
        return self._settings.log_partitions

    async def append(self, events: Sequence[LoggedEvent]) -> list[Verdict]:
        """See EventLog."""
        require_complete(events)
        for visitor_id, link in newest_links(events).items():
            self._links[visitor_id] = max(link, self._links.get(visitor_id, link))
        return [self._append(event) for event in events]

    async def shopper(self, user_id: str | None, visitor_id: str | None) -> Shopper:
        """See EventLog."""
        keys = [shopper_key(None, visitor_id)] if visitor_id else []
        if not user_id and visitor_id in self._links:
            _, _, user_id = self._links[visitor_id]
        if user_id:
            keys.append(shopper_key(user_id, None))
        parts = [(self._windows.get(key, []), self._exposures.get(key, {})) for key in keys]
        features = self.features.get(keys[-1]) if keys else None
        return Shopper.union(user_id, parts, self._settings.window_size, features)

    async def deliver(
        self, group: str, consumer: str, partition: int, count: int
    ) -> list[tuple[str, LoggedEvent]]:
        """See EventLog."""
        reader, stream = (group, partition), self._streams[partition]
        pending = self._pending[reader]
        mine = list(islice((entry for entry, owner in pending.items() if owner == consumer), count))
        last = self._delivered.get(reader, -1)
        new = list(islice((entry for entry in stream if entry > last), count - len(mine)))
        pending.update(dict.fromkeys(new, consumer))
        self._delivered[reader] = max([last, *new])
        return [(str(entry), stream[entry]) for entry in mine + new]

    async def acknowledge(self, group: str, partition: int, entry_ids: Sequence[str]) -> None:
        """See EventLog."""
        for entry_id in entry_ids:
            self._pending[group, partition].pop(int(entry_id), None)

    async def trim(self, partition: int) -> int:
        """See EventLog."""
        readers = [reader for reader in self._delivered if reader[1] == partition]
        needed = [min(self._pending[reader], default=self._delivered[reader]) for reader in readers]
        passed = [entry for entry in self._streams[partition] if entry < min(needed, default=0)]
        for entry in passed:
            del self._streams[partition][entry]
        return len(passed)

    async def ping(self) -> None:
        """See EventLog."""

    async def aclose(self) -> None:
        """See EventLog."""

    def _append(self, event: LoggedEvent) -> Verdict:
        partition = partition_of(event.shopper, self.partitions)
        if event.event_id in self._seen[partition]:
            return Verdict.DUPLICATE
        self._seen[partition].add(event.event_id)
        self._streams[partition][self._appended] = event
        self._appended += 1
        if event.event_type == EventType.IMPRESSION:
            self._show(event)
        else:
            window = self._windows.get(event.shopper, [])
            self._windows[event.shopper] = merge_windows(
                [*window, window_event(event)], self._settings.window_size
            )
        return Verdict.ACCEPTED

    def _show(self, event: LoggedEvent) -> None:
        exposures = self._exposures[event.shopper]
        item_id = event.item_id or ""
        exposures[item_id] = max(event.timestamp, exposures.get(item_id, event.timestamp))
        if len(exposures) > self._settings.exposures_size:
            del exposures[min(exposures, key=lambda shown: (exposures[shown], shown))]
