"""The event log in the memory of one process, for tests and replays.

It keeps the promises of EventLog but one: nothing expires, neither windows nor dedup marks.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from feature_repo.catalog_changes import CatalogLog
from feature_repo.erasure import Erasure, Removed, Store, Trace
from feature_repo.event_log import (
    Shopper,
    Verdict,
    newest_links,
    partition_of,
    require_complete,
    window_event,
)
from feature_repo.events import LoggedEvent
from feature_repo.log_reader import LogReader
from feature_repo.memory_catalog_log import MemoryCatalogLog
from feature_repo.memory_log_reader import MemoryLetterReader, MemoryLogReader, MemoryStream
from feature_repo.online_user import OnlineUser
from feature_repo.schema import EventType, shopper_key
from feature_repo.session_window import WindowEvent, merge_windows
from feature_repo.settings import Settings


class MemoryEventLog:
    """An event log that ends with its process; ``features`` stands for what materialization brought online."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._streams = [MemoryStream() for _ in range(settings.log_partitions)]
        self._seen: list[set[str]] = [set() for _ in range(settings.log_partitions)]
        self._windows: dict[str, list[WindowEvent]] = {}
        self._exposures: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._links: dict[str, tuple[int, str, str]] = {}
        self._catalog = MemoryCatalogLog()
        self._activity: bytes | None = None
        self.features: dict[str, OnlineUser] = {}

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

    def reader(self, group: str, consumer: str) -> LogReader:
        """See EventLog."""
        return MemoryLogReader(self._streams, group, consumer)

    def letters(self, group: str) -> LogReader:
        """See EventLog."""
        return MemoryLetterReader(self._streams, group, group)

    async def item_counts(self, partition: int, buckets: Sequence[tuple[str, int]]) -> list[dict[str, int]]:
        """See EventLog."""
        return [dict(self._streams[partition].counts.get(bucket, {})) for bucket in buckets]

    @property
    def catalog(self) -> CatalogLog:
        """See EventLog."""
        return self._catalog

    async def publish_activity(self, message: bytes) -> None:
        """See EventLog. It holds for ever."""
        self._activity = message

    async def published_activity(self) -> bytes | None:
        """See EventLog."""
        return self._activity

    async def fullness(self) -> float:
        """See EventLog."""
        return 0.0

    async def visitors_of(self, user_id: str) -> set[str]:
        """See EventLog."""
        linked = {visitor for visitor, (_, _, user) in self._links.items() if user == user_id}
        contents = [content for stream in self._streams for content in stream.entries.values()]
        events = [LoggedEvent.from_json(content) for content in contents]
        return linked | {
            event.visitor_id for event in events if event.user_id == user_id and event.visitor_id
        }

    async def erase(self, erasure: Erasure, archived: Iterable[Trace] = ()) -> Removed:
        """See EventLog."""
        removed: Counter[Store] = Counter()
        traces = list(archived)
        for stream in self._streams:
            entries = [n for n, content in stream.entries.items() if erasure.covers_letter(content)]
            letters = [letter for letter in stream.dead if erasure.covers_letter(letter.content)]
            contents = [stream.entries[n] for n in entries] + [letter.content for letter in letters]
            traces += [Trace.of(LoggedEvent.from_json(content)) for content in contents]
            stream.remove(entries)
            stream.dead = [letter for letter in stream.dead if letter not in letters]
            removed += Counter({Store.EVENT_LOG: len(entries), Store.DEAD_LETTERS: len(letters)})
        for shopper in erasure.shopper_keys:
            removed += self._forget(shopper, erasure.erased_at)
        for trace in traces:
            removed += self._forget_trace(trace)
        return removed

    async def ping(self) -> None:
        """See EventLog."""

    async def aclose(self) -> None:
        """See EventLog."""

    def _append(self, event: LoggedEvent) -> Verdict:
        partition = partition_of(event.shopper, self.partitions)
        if event.event_id in self._seen[partition]:
            return Verdict.DUPLICATE
        self._seen[partition].add(event.event_id)
        self._streams[partition].add(event.to_json())
        if event.event_type == EventType.IMPRESSION:
            self._show(event)
        else:
            window = self._windows.get(event.shopper, [])
            self._windows[event.shopper] = merge_windows(
                [*window, window_event(event)], self._settings.window_size
            )
        return Verdict.ACCEPTED

    def _forget(self, shopper: str, erased_at: int) -> Counter[Store]:
        """Remove what lies under a shopper's own keys from up to a moment."""
        window, exposures = self._windows.get(shopper, []), self._exposures.get(shopper, {})
        self._windows[shopper] = [event for event in window if event.timestamp > erased_at]
        self._exposures[shopper] = {item: shown for item, shown in exposures.items() if shown > erased_at}
        visitor_id = shopper.removeprefix("v:")
        linked = shopper.startswith("v:") and self._links.get(visitor_id, (erased_at + 1,))[0] <= erased_at
        if linked:
            del self._links[visitor_id]
        return Counter(
            {
                Store.SESSION_WINDOWS: len(window) - len(self._windows[shopper]),
                Store.EXPOSURES: len(exposures) - len(self._exposures[shopper]),
                Store.LINKS: int(linked),
                Store.ONLINE_FEATURES: int(self.features.pop(shopper, None) is not None),
            }
        )

    def _forget_trace(self, trace: Trace) -> Counter[Store]:
        """Remove an event's mark, and what it left with whatever shopper."""
        seen = self._seen[partition_of(trace.shopper, self.partitions)]
        window, exposures = self._windows.get(trace.shopper, []), self._exposures[trace.shopper]
        self._windows[trace.shopper] = [event for event in window if event.event_id != trace.event_id]
        shown = trace.item_id is not None and exposures.get(trace.item_id) == trace.timestamp
        if shown:
            del exposures[trace.item_id or ""]
        marked = trace.event_id in seen
        seen.discard(trace.event_id)
        return Counter(
            {
                Store.DEDUP_MARKS: int(marked),
                Store.SESSION_WINDOWS: len(window) - len(self._windows[trace.shopper]),
                Store.EXPOSURES: int(shown),
            }
        )

    def _show(self, event: LoggedEvent) -> None:
        exposures = self._exposures[event.shopper]
        item_id = event.item_id or ""
        exposures[item_id] = max(event.timestamp, exposures.get(item_id, event.timestamp))
        if len(exposures) > self._settings.exposures_size:
            del exposures[min(exposures, key=lambda shown: (exposures[shown], shown))]
