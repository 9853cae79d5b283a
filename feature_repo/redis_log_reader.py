"""A consumer of the event log in Redis; see redis_layout for what lies where."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ResponseError

from feature_repo.item_activity import Count
from feature_repo.log_reader import ARCHIVE_GROUP, DeadLetter, Delivery, Lag
from feature_repo.redis_functions import Call, RedisFunctions, explained
from feature_repo.redis_layout import (
    EVENT_FIELD,
    GROUP_FIELD,
    REASON_FIELD,
    count_field,
    count_key,
    dead_key,
    stream_key,
)
from feature_repo.schema import SECOND
from feature_repo.settings import Settings

_TAKEN_OVER: Final = 1000
"""Entries of a dead consumer that are taken over at a time."""


class RedisLogReader:
    """See LogReader."""

    def __init__(
        self,
        client: "Redis | RedisCluster",
        functions: RedisFunctions,
        settings: Settings,
        group: str,
        consumer: str,
    ) -> None:
        self._client = client
        self._functions = functions
        self._settings = settings
        self.group = group
        self._consumer = consumer

    @property
    def partitions(self) -> int:
        """Number of partitions; they count from 0."""
        return self._settings.log_partitions

    async def join(self) -> None:
        """See LogReader."""
        for partition in range(self.partitions):
            await self._join(partition)

    async def deliver(self, partition: int, count: int) -> list[Delivery]:
        """See LogReader."""
        stream = stream_key(partition)
        with explained():
            try:
                entries = await self._read(stream, "0", count)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                await self._join(partition)
                entries = []
            if len(entries) < count:
                entries += await self._read(stream, ">", count - len(entries))
        gone = [entry_id.decode() for entry_id, fields in entries if not fields]  # erased since
        await self.acknowledge(partition, gone)
        return [Delivery(entry_id.decode(), fields[EVENT_FIELD]) for entry_id, fields in entries if fields]

    async def acknowledge(self, partition: int, entry_ids: Sequence[str]) -> None:
        """See LogReader."""
        if entry_ids:
            with explained():
                await self._client.xack(stream_key(partition), self.group, *entry_ids)

    async def count(self, partition: int, counts: Mapping[str, Sequence[Count]]) -> None:
        """See LogReader."""
        call = count_call(self._functions, partition, stream_key(partition), self.group, counts)
        await self._functions.call([call])

    async def take_over(self, partition: int, idle_seconds: float) -> int:
        """See LogReader. Consumers that are left with nothing are forgotten."""
        stream, idle = stream_key(partition), round(idle_seconds * 1000)
        with explained():
            try:
                _, entries, _ = await self._client.xautoclaim(
                    stream,
                    self.group,
                    self._consumer,
                    min_idle_time=idle,
                    count=_TAKEN_OVER,
                    justid=False,
                )
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                return 0
        await self._functions.call([self._functions.call_of("forget", [stream], [self.group, idle])])
        return len(entries)

    async def deliveries(self, partition: int, entry_id: str) -> int:
        """See LogReader."""
        with explained():
            found = await self._client.xpending_range(
                stream_key(partition), self.group, min=entry_id, max=entry_id, count=1
            )
        return int(found[0]["times_delivered"]) if found else 0

    async def bury(self, partition: int, delivery: Delivery, reason: str) -> None:
        """See LogReader."""
        letter: list[str | bytes] = [
            GROUP_FIELD,
            self.group,
            REASON_FIELD,
            reason,
            EVENT_FIELD,
            delivery.content,
        ]
        args: list[str | bytes | int] = [
            self.group,
            delivery.entry_id,
            self._settings.dead_letters_kept,
            *letter,
        ]
        keys = [stream_key(partition), dead_key(partition)]
        await self._functions.call([self._functions.call_of("bury", keys, args)])

    async def dead_letters(self, partition: int) -> list[DeadLetter]:
        """See LogReader."""
        with explained():
            entries = await self._client.xrange(dead_key(partition))
        return [
            DeadLetter(
                letter_id.decode(),
                fields[GROUP_FIELD].decode(),
                fields[REASON_FIELD].decode(),
                fields[EVENT_FIELD],
            )
            for letter_id, fields in entries
        ]

    async def dead_letter_count(self, partition: int) -> int:
        """See LogReader."""
        with explained():
            return cast("int", await self._client.xlen(dead_key(partition)))

    async def exhume(self, partition: int, letter_ids: Sequence[str]) -> None:
        """See LogReader."""
        if letter_ids:
            with explained():
                await self._client.xdel(dead_key(partition), *letter_ids)

    async def trim(self, partition: int) -> int:
        """See LogReader. The last entry that was delivered stays."""
        stream = stream_key(partition)
        with explained():
            if not await self._client.exists(stream):
                return 0
            # The order matters: what is delivered after the first call lies above what it returns.
            groups = await self._client.xinfo_groups(stream)
            oldest_needed = []
            for group in groups:
                pending = await self._client.xpending(stream, group["name"])
                oldest_needed.append(pending["min"] or group["last-delivered-id"])
            if not any(group["name"] == ARCHIVE_GROUP.encode() for group in groups):
                return 0
            bound = min(oldest_needed, key=_entry_order)
            return cast("int", await self._client.xtrim(stream, minid=bound, approximate=False))

    async def lag(self, partition: int) -> Lag:
        """See LogReader."""
        stream = stream_key(partition)
        with explained():
            groups = await self._client.xinfo_groups(stream) if await self._client.exists(stream) else []
            mine = next((group for group in groups if group["name"] == self.group.encode()), None)
            last = mine["last-delivered-id"].decode() if mine else "-"
            pending = await self._client.xpending(stream, self.group) if mine else {"min": None}
            after = f"({last}" if mine else last
            [*first] = await self._client.xrange(stream, min=after, count=1)
            behind = await self._entries_after(stream, mine)
        oldest = pending["min"] or (first[0][0] if first else None)
        since = None if oldest is None else _entry_order(oldest)[0] * (SECOND // 1000)
        return Lag(behind + (mine["pending"] if mine else 0), since)

    async def _entries_after(self, stream: str, group: "dict[str, Any] | None") -> int:
        """Entries that a group was not given yet. Redis itself does not know once entries were erased."""
        if group is None:
            return cast("int", await self._client.xlen(stream))
        if group.get("lag") is not None:
            return cast("int", group["lag"])
        last = group["last-delivered-id"].decode()
        return len(await self._client.xrange(stream, min=f"({last}"))

    async def _read(self, stream: str, start: str, count: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        reply = await self._client.xreadgroup(self.group, self._consumer, {stream: start}, count=count)
        return list(reply[0][1]) if reply else []

    async def _join(self, partition: int) -> None:
        call = self._functions.call_of("join", [stream_key(partition)], [self.group])
        await self._functions.call([call])


def _entry_order(entry_id: bytes) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split(b"-")))


def count_call(
    functions: RedisFunctions,
    partition: int,
    entries: str,
    group: str,
    counts: Mapping[str, Sequence[Count]],
) -> Call:
    """Call that counts entries of the stream ``entries``; of no group where they are dead letters."""
    buckets: dict[tuple[str, int], int] = {}  # the number of each
    forgotten: list[str | bytes | int] = []
    words: list[str | bytes | int] = []
    for entry_id, added in counts.items():
        words += [entry_id, len(added)]
        for count in added:
            bucket = (count.window.name, count.start)
            if bucket not in buckets:
                buckets[bucket] = len(buckets) + 1
                forgotten.append(count.forgotten // 1000)
            words += [buckets[bucket], count_field(count.event_type, count.item_id)]
    keys = [entries, *(count_key(partition, *bucket) for bucket in buckets)]
    return functions.call_of("count", keys, [group, *forgotten, *words])
