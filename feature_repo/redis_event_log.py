"""The event log in Redis; see redis_layout for what lies where."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, cast

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo.activity_message import MESSAGE_SECONDS
from feature_repo.catalog_changes import CatalogLog
from feature_repo.erasure import Erasure, Removed, Trace
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
from feature_repo.online_user import USER_FIELDS, decode_user, user_key
from feature_repo.redis_catalog_log import RedisCatalogLog
from feature_repo.redis_erasure import RedisErasure
from feature_repo.redis_functions import Call, RedisFunctions, explained
from feature_repo.redis_layout import (
    ACTIVITY_KEY,
    count_key,
    decode_exposures,
    decode_link,
    decode_window,
    encode_link,
    encode_window_event,
    key,
    stream_key,
)
from feature_repo.redis_letter_reader import RedisLetterReader
from feature_repo.redis_log_reader import RedisLogReader
from feature_repo.redis_reading import RedisReading
from feature_repo.schema import DAY, HOUR, SECOND, EventType, shopper_key
from feature_repo.settings import Settings

_MILLISECOND = SECOND // 1000


class RedisEventLog:
    """The event log in Redis 7 or Valkey, alone or as a cluster. Belongs to one event loop.

    Shoppers are read over connections of their own if there are some, ``reading``.
    """

    def __init__(
        self, client: "Redis | RedisCluster", settings: Settings, reading: RedisReading | None = None
    ) -> None:
        self._client = client
        self._reading = reading
        self._settings = settings
        self._dedup_ms = _milliseconds(settings.dedup_hours * HOUR)
        self._window_ms = _milliseconds(settings.window_ttl_days * DAY)
        self._exposures_ms = _milliseconds(settings.exposures_ttl_days * DAY)
        self._link_ms = _milliseconds(settings.link_ttl_days * DAY)
        self._functions = RedisFunctions(client)

    @classmethod
    def connect(cls, url: str, settings: Settings) -> Self:
        """Log in the Redis at ``url``. Connects when first used, gives up early and reconnects by itself."""
        patience = settings.redis_timeout_seconds
        pool = BlockingConnectionPool.from_url(
            url,
            timeout=patience,
            socket_timeout=patience,
            socket_connect_timeout=patience,
            retry=Retry(NoBackoff(), 0),
        )
        return cls(Redis.from_pool(pool), settings, RedisReading.connect(url, patience))

    @property
    def partitions(self) -> int:
        """Number of partitions; they count from 0."""
        return self._settings.log_partitions

    async def append(self, events: Sequence[LoggedEvent]) -> list[Verdict]:
        """See EventLog. One round trip, one function call per partition."""
        require_complete(events)
        places: dict[int, list[int]] = defaultdict(list)
        for place, event in enumerate(events):
            places[partition_of(event.shopper, self.partitions)].append(place)
        appends = [
            self._append_call(partition, [events[place] for place in places[partition]])
            for partition in places
        ]
        # Links go first: who reads an event of a visitor's user can then also find it by the visitor.
        links = self._link_calls(events)
        replies = (await self._functions.call([*links, *appends]))[len(links) :]
        verdicts = [Verdict.DUPLICATE] * len(events)
        for partition, accepted in zip(places, replies, strict=True):
            for place, new in zip(places[partition], accepted, strict=True):
                verdicts[place] = Verdict.ACCEPTED if new else Verdict.DUPLICATE
        return verdicts

    async def shopper(self, user_id: str | None, visitor_id: str | None) -> Shopper:
        """See EventLog. One round trip; a second one when a visitor alone turns out to be linked."""
        keys = [shopper_key(None, visitor_id)] if visitor_id else []
        if user_id:
            keys.append(shopper_key(user_id, None))
        with explained():
            if user_id or not visitor_id:
                sets = await self._read(keys)
            else:
                *sets, link = await self._read(keys, self._set("link", *keys))
                if user_id := decode_link(link):
                    sets += await self._read([shopper_key(user_id, None)])
        windows, exposures = map(decode_window, sets[::3]), map(decode_exposures, sets[1::3])
        features = decode_user(sets[-1]) if sets else None
        return Shopper.union(
            user_id, zip(windows, exposures, strict=True), self._settings.window_size, features
        )

    def reader(self, group: str, consumer: str) -> LogReader:
        """See EventLog."""
        return RedisLogReader(self._client, self._functions, self._settings, group, consumer)

    def letters(self, group: str) -> LogReader:
        """See EventLog."""
        return RedisLetterReader(self._client, self._functions, self._settings, group, group)

    async def item_counts(self, partition: int, buckets: Sequence[tuple[str, int]]) -> list[dict[str, int]]:
        """See EventLog. One round trip."""
        with explained():
            async with self._client.pipeline(transaction=False) as pipe:
                for window, start in buckets:
                    pipe.hgetall(count_key(partition, window, start))
                found = await pipe.execute()
        return [{field.decode(): int(number) for field, number in counts.items()} for counts in found]

    @property
    def catalog(self) -> CatalogLog:
        """See EventLog."""
        return RedisCatalogLog(self._client)

    async def publish_activity(self, message: bytes) -> None:
        """See EventLog."""
        with explained():
            await self._client.set(ACTIVITY_KEY, message, ex=MESSAGE_SECONDS)

    async def published_activity(self) -> bytes | None:
        """See EventLog."""
        with explained():
            return cast("bytes | None", await self._client.get(ACTIVITY_KEY))

    async def fullness(self) -> float:
        """See EventLog. Of a cluster that of the fullest node."""
        with explained():
            if isinstance(self._client, RedisCluster):
                nodes = await self._client.info("memory", target_nodes=RedisCluster.PRIMARIES)
                return max(map(_fullness, nodes.values()))
            return _fullness(await self._client.info("memory"))

    async def visitors_of(self, user_id: str) -> set[str]:
        """See EventLog."""
        return await self._erasure().visitors_of(user_id)

    async def erase(self, erasure: Erasure, archived: Iterable[Trace] = ()) -> Removed:
        """See EventLog."""
        return await self._erasure().erase(erasure, archived)

    async def ping(self) -> None:
        """See EventLog."""
        with explained():
            await cast("Any", self._client.ping())

    async def aclose(self) -> None:
        """See EventLog."""
        await self._client.aclose()
        if self._reading:
            await self._reading.aclose()

    def _erasure(self) -> RedisErasure:
        return RedisErasure(self._client, self._functions, self.partitions)

    def _set(self, kind: str, shopper: str) -> str:
        return key(partition_of(shopper, self.partitions), kind, shopper)

    def _append_call(self, partition: int, events: Sequence[LoggedEvent]) -> Call:
        keys = [stream_key(partition)]
        args: list[str | bytes | int] = [self._dedup_ms]
        for event in events:
            keys += [key(partition, "seen", event.event_id), key(partition, _kind(event), event.shopper)]
            args += [event.timestamp, *self._member(event), event.to_json()]
        return self._functions.call_of("append", keys, args)

    def _member(self, event: LoggedEvent) -> tuple[bytes, int, int]:
        """What an event adds to its sorted set, the set's size and its life in milliseconds."""
        if _kind(event) == "shown":
            return (event.item_id or "").encode(), self._settings.exposures_size, self._exposures_ms
        return encode_window_event(window_event(event)), self._settings.window_size, self._window_ms

    def _link_calls(self, events: Sequence[LoggedEvent]) -> list[Call]:
        keys: dict[int, list[str]] = defaultdict(list)
        args: dict[int, list[bytes | int]] = defaultdict(list)
        for visitor_id, (timestamp, event_id, user_id) in newest_links(events).items():
            visitor = shopper_key(None, visitor_id)
            partition = partition_of(visitor, self.partitions)
            keys[partition].append(self._set("link", visitor))
            args[partition] += [timestamp, encode_link(event_id, user_id)]
        return [self._functions.call_of("link", keys[p], [self._link_ms, *args[p]]) for p in keys]

    async def _read(self, shoppers: Iterable[str], *links: str) -> list[Any]:
        """Window, exposures and features of each shopper in turn, then each link, in one round trip.

        One deadline is over all of it: one for each reply takes longer than the replies.
        """
        commands: list[Call] = []
        for shopper in shoppers:
            commands += [
                ("ZRANGE", self._set("window", shopper), 0, -1, "WITHSCORES"),
                ("ZRANGE", self._set("shown", shopper), 0, -1, "WITHSCORES"),
                ("HMGET", user_key(shopper), *USER_FIELDS),
            ]
        commands += [("ZRANGE", link, 0, -1) for link in links]
        patience = self._settings.redis_timeout_seconds
        try:
            async with asyncio.timeout(patience):
                return await self._replies(commands)
        except TimeoutError:
            raise RedisTimeoutError(f"no reply within {patience:g} seconds") from None

    async def _replies(self, commands: Sequence[Call]) -> list[Any]:
        if self._reading:
            return await self._reading.send(commands)
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await pipe.execute()


def _kind(event: LoggedEvent) -> str:
    return "shown" if event.event_type == EventType.IMPRESSION else "window"


def _milliseconds(microseconds: float) -> int:
    return max(1, round(microseconds / _MILLISECOND))


def _fullness(memory: Mapping[str, int]) -> float:
    return memory["used_memory"] / memory["maxmemory"] if memory["maxmemory"] else 0.0
