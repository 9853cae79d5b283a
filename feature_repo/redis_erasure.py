"""Erasing a shopper from the event log in Redis; see redis_layout for what lies where."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from redis.asyncio import Redis, RedisCluster

from feature_repo.erasure import Erasure, Removed, Store, Trace
from feature_repo.event_log import partition_of
from feature_repo.events import LoggedEvent
from feature_repo.online_user import user_key
from feature_repo.redis_functions import RedisFunctions, explained
from feature_repo.redis_layout import (
    EVENT_FIELD,
    LINK_PATTERN,
    dead_key,
    decode_link,
    decode_window,
    key,
    stream_key,
    visitor_of_link,
)
from feature_repo.schema import shopper_key

_PAGE: Final = 1000
"""Keys or entries that are looked at in one round trip."""


class RedisErasure:
    """Finds and erases a shopper. It looks at every key and entry, so it takes its time in a large log."""

    def __init__(self, client: "Redis | RedisCluster", functions: RedisFunctions, partitions: int) -> None:
        self._client = client
        self._functions = functions
        self._partitions = partitions

    async def visitors_of(self, user_id: str) -> set[str]:
        """See EventLog."""
        found: set[str] = set()
        partition = partition_of(shopper_key(user_id, None), self._partitions)
        with explained():
            links = [link async for link in self._client.scan_iter(match=LINK_PATTERN, count=_PAGE)]
            for start in range(0, len(links), _PAGE):
                page = links[start : start + _PAGE]
                async with self._client.pipeline(transaction=False) as pipe:
                    for link in page:
                        pipe.zrange(link, 0, -1)
                    users = [decode_link(members) for members in await pipe.execute()]
                found.update(
                    visitor_of_link(link) for link, user in zip(page, users, strict=True) if user == user_id
                )
            for stream in (stream_key(partition), dead_key(partition)):
                async for _, content in self._entries(stream):
                    try:
                        event = LoggedEvent.from_json(content)
                    except (ValueError, TypeError):
                        continue
                    if event.user_id == user_id and event.visitor_id:
                        found.add(event.visitor_id)
        return found

    async def erase(self, erasure: Erasure, archived: Iterable[Trace]) -> Removed:
        """See EventLog."""
        removed: Counter[Store] = Counter()
        traces = list(archived)
        with explained():
            entries = {
                stream_key(partition): await self._covered(stream_key(partition), erasure, traces)
                for partition in range(self._partitions)
            }
            letters = {
                dead_key(partition): await self._covered(dead_key(partition), erasure, traces)
                for partition in range(self._partitions)
            }
            homes = {partition_of(name, self._partitions) for name in self._shoppers(erasure, traces)}
            rewritten = {make(partition) for partition in homes for make in (stream_key, dead_key)}
            for stream, ids in (entries | letters).items():
                if ids or stream in rewritten:
                    await self._functions.call([self._functions.call_of("erase", [stream], ids)])
            removed[Store.EVENT_LOG] = sum(map(len, entries.values()))
            removed[Store.DEAD_LETTERS] = sum(map(len, letters.values()))
            removed += await self._forget(erasure)
            removed += await self._forget_traces(traces, set(erasure.shopper_keys))
        return removed

    @staticmethod
    def _shoppers(erasure: Erasure, traces: Iterable[Trace]) -> set[str]:
        return {*erasure.shopper_keys, *(trace.shopper for trace in traces)}

    async def _covered(self, stream: str, erasure: Erasure, traces: list[Trace]) -> list[str]:
        """Ids of the entries that an erasure covers; their traces join the others."""
        ids = []
        async for entry_id, content in self._entries(stream):
            if erasure.covers_letter(content):
                ids.append(entry_id)
                try:
                    traces.append(Trace.of(LoggedEvent.from_json(content)))
                except (ValueError, TypeError):  # no event, so it left no trace
                    continue
        return ids

    async def _entries(self, stream: str) -> AsyncIterator[tuple[str, bytes]]:
        start = "-"
        while page := await self._client.xrange(stream, min=start, count=_PAGE):
            for entry_id, fields in page:
                yield entry_id.decode(), fields[EVENT_FIELD]
            start = f"({page[-1][0].decode()}"

    async def _forget(self, erasure: Erasure) -> Counter[Store]:
        """Remove what lies under the shopper's own keys."""
        kinds = {"window": Store.SESSION_WINDOWS, "shown": Store.EXPOSURES, "link": Store.LINKS}
        stores: list[Store] = []
        async with self._client.pipeline(transaction=False) as pipe:
            for shopper in erasure.shopper_keys:
                for kind, store in kinds.items():
                    pipe.zremrangebyscore(self._key(kind, shopper), "-inf", erasure.erased_at)
                    stores.append(store)
                pipe.delete(user_key(shopper))
                stores.append(Store.ONLINE_FEATURES)
            counts = await pipe.execute()
        removed: Counter[Store] = Counter()
        for store, count in zip(stores, counts, strict=True):
            removed[store] += count
        return removed

    async def _forget_traces(self, traces: Sequence[Trace], own: set[str]) -> Counter[Store]:
        """Remove the marks of events, and what they left with shoppers other than ``own``."""
        removed: Counter[Store] = Counter()
        elsewhere: dict[str, list[Trace]] = defaultdict(list)
        for trace in traces:
            removed[Store.DEDUP_MARKS] += await self._client.delete(
                key(partition_of(trace.shopper, self._partitions), "seen", trace.event_id)
            )
            if trace.shopper not in own:
                elsewhere[trace.shopper].append(trace)
        for shopper, left in elsewhere.items():
            window, shown = self._key("window", shopper), self._key("shown", shopper)
            members = await self._client.execute_command("ZRANGE", window, 0, -1, "WITHSCORES")
            ids = {trace.event_id for trace in left}
            for member, event in zip(members[::2], decode_window(members), strict=True):
                if event.event_id in ids:
                    removed[Store.SESSION_WINDOWS] += await self._client.zrem(window, member)
            for trace in left:
                if trace.item_id and await self._client.zscore(shown, trace.item_id) == trace.timestamp:
                    removed[Store.EXPOSURES] += await self._client.zrem(shown, trace.item_id)
        return removed

    def _key(self, kind: str, shopper: str) -> str:
        return key(partition_of(shopper, self._partitions), kind, shopper)
