"""The event log in Redis; see redis_layout for what lies where."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Self, cast

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterError,
    ConnectionError,  # noqa: A004
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,  # noqa: A004
)

from feature_repo.errors import LogUnavailableError
from feature_repo.event_log import (
    Shopper,
    Verdict,
    newest_links,
    partition_of,
    require_complete,
    window_event,
)
from feature_repo.events import LoggedEvent
from feature_repo.online_user import USER_FIELDS, decode_user, user_key
from feature_repo.redis_layout import (
    EVENT_FIELD,
    decode_exposures,
    decode_link,
    decode_window,
    encode_link,
    encode_window_event,
    key,
    stream_key,
)
from feature_repo.schema import DAY, HOUR, SECOND, EventType, shopper_key
from feature_repo.settings import Settings

_MILLISECOND = SECOND // 1000
_Call = tuple[str | bytes | int, ...]


class RedisEventLog:
    """The event log in Redis 7 or Valkey, alone or as a cluster. Belongs to one event loop."""

    def __init__(self, client: "Redis | RedisCluster", settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._dedup_ms = _milliseconds(settings.dedup_hours * HOUR)
        self._window_ms = _milliseconds(settings.window_ttl_days * DAY)
        self._exposures_ms = _milliseconds(settings.exposures_ttl_days * DAY)
        self._link_ms = _milliseconds(settings.link_ttl_days * DAY)
        # Servers of two releases may share one Redis: each calls the functions it was shipped with.
        source = files(__package__).joinpath("event_log.lua").read_text()
        self._version = hashlib.sha256(source.encode()).hexdigest()[:12]
        self._library = source.replace("VERSION", self._version)

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
        return cls(Redis.from_pool(pool), settings)

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
        replies = (await self._call([*links, *appends]))[len(links) :]
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
        with _explained():
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

    async def deliver(
        self, group: str, consumer: str, partition: int, count: int
    ) -> list[tuple[str, LoggedEvent]]:
        """See EventLog."""
        stream = stream_key(partition)
        with _explained():
            try:
                entries = await self._read_group(group, consumer, stream, "0", count)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                await self._create_group(group, stream)
                entries = []
            if len(entries) < count:
                entries += await self._read_group(group, consumer, stream, ">", count - len(entries))
        return [
            (entry_id.decode(), LoggedEvent.from_json(fields[EVENT_FIELD])) for entry_id, fields in entries
        ]

    async def acknowledge(self, group: str, partition: int, entry_ids: Sequence[str]) -> None:
        """See EventLog."""
        if entry_ids:
            with _explained():
                await self._client.xack(stream_key(partition), group, *entry_ids)

    async def trim(self, partition: int) -> int:
        """See EventLog. The last entry that was delivered stays."""
        stream = stream_key(partition)
        with _explained():
            if not await self._client.exists(stream):
                return 0
            # The order matters: what is delivered after the first call lies above what it returns.
            groups = await self._client.xinfo_groups(stream)
            oldest_needed = []
            for group in groups:
                pending = await self._client.xpending(stream, group["name"])
                oldest_needed.append(pending["min"] or group["last-delivered-id"])
            if not oldest_needed:
                return 0
            bound = min(oldest_needed, key=_entry_order)
            return cast("int", await self._client.xtrim(stream, minid=bound, approximate=False))

    async def ping(self) -> None:
        """See EventLog."""
        with _explained():
            await cast("Any", self._client.ping())

    async def aclose(self) -> None:
        """See EventLog."""
        await self._client.aclose()

    def _set(self, kind: str, shopper: str) -> str:
        return key(partition_of(shopper, self.partitions), kind, shopper)

    def _append_call(self, partition: int, events: Sequence[LoggedEvent]) -> _Call:
        keys = [stream_key(partition)]
        args: list[str | bytes | int] = [self._dedup_ms]
        for event in events:
            keys += [key(partition, "seen", event.event_id), key(partition, _kind(event), event.shopper)]
            args += [event.timestamp, *self._member(event), event.to_json()]
        return ("FCALL", f"freshet_append_{self._version}", len(keys), *keys, *args)

    def _member(self, event: LoggedEvent) -> tuple[bytes, int, int]:
        """What an event adds to its sorted set, the set's size and its life in milliseconds."""
        if _kind(event) == "shown":
            return (event.item_id or "").encode(), self._settings.exposures_size, self._exposures_ms
        return encode_window_event(window_event(event)), self._settings.window_size, self._window_ms

    def _link_calls(self, events: Sequence[LoggedEvent]) -> list[_Call]:
        keys: dict[int, list[str]] = defaultdict(list)
        args: dict[int, list[bytes | int]] = defaultdict(list)
        for visitor_id, (timestamp, event_id, user_id) in newest_links(events).items():
            visitor = shopper_key(None, visitor_id)
            partition = partition_of(visitor, self.partitions)
            keys[partition].append(self._set("link", visitor))
            args[partition] += [timestamp, encode_link(event_id, user_id)]
        name = f"freshet_link_{self._version}"
        return [("FCALL", name, len(keys[p]), *keys[p], self._link_ms, *args[p]) for p in keys]

    async def _call(self, calls: Sequence[_Call]) -> list[Any]:
        """Replies to function calls sent in one round trip; a server that lacks the functions gets them."""
        with _explained():
            replies = await self._send(calls)
            unknown = [n for n, reply in enumerate(replies) if _is_unknown_function(reply)]
            if unknown:
                await cast("Any", self._client.function_load(self._library, replace=True))
                for n, reply in zip(unknown, await self._send([calls[n] for n in unknown]), strict=True):
                    replies[n] = reply
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies

    async def _send(self, calls: Sequence[_Call]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipe:
            for call in calls:
                pipe.execute_command(*call)
            return await pipe.execute(raise_on_error=False)

    async def _read(self, shoppers: Iterable[str], *links: str) -> list[Any]:
        """Window, exposures and features of each shopper in turn, then each link, in one round trip."""
        async with self._client.pipeline(transaction=False) as pipe:
            for shopper in shoppers:
                pipe.zrange(self._set("window", shopper), 0, -1, withscores=True)
                pipe.zrange(self._set("shown", shopper), 0, -1, withscores=True)
                pipe.hmget(user_key(shopper), USER_FIELDS)  # type: ignore[arg-type]
            for link in links:
                pipe.zrange(link, 0, -1)
            return await pipe.execute()

    async def _read_group(
        self, group: str, consumer: str, stream: str, start: str, count: int
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        reply = await self._client.xreadgroup(group, consumer, {stream: start}, count=count)
        return list(reply[0][1]) if reply else []

    async def _create_group(self, group: str, stream: str) -> None:
        try:
            await self._client.xgroup_create(stream, group, id="0", mkstream=True)
        except ResponseError as error:  # another consumer was first
            if not str(error).startswith("BUSYGROUP"):
                raise


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what Redis says when it is away or full into LogUnavailableError."""
    try:
        yield
    except (ConnectionError, TimeoutError, ClusterError) as error:
        raise LogUnavailableError(
            f"the event log cannot be reached ({error}): see that Redis runs where FRESHET_REDIS_URL or "
            "FRESHET_REDIS_PORT says, then send the same events again"
        ) from error
    except ResponseError as error:
        refused = isinstance(error, OutOfMemoryError | ReadOnlyError)
        if not refused and not str(error).startswith(("MISCONF", "NOREPLICAS")):
            raise
        raise LogUnavailableError(
            f"the event log takes no writes ({error}): give Redis memory or disk, or drain the log, then "
            "send the same events again"
        ) from error


def _kind(event: LoggedEvent) -> str:
    return "shown" if event.event_type == EventType.IMPRESSION else "window"


def _milliseconds(microseconds: float) -> int:
    return max(1, round(microseconds / _MILLISECOND))


def _is_unknown_function(reply: object) -> bool:
    return isinstance(reply, ResponseError) and "Function not found" in str(reply)


def _entry_order(entry_id: bytes) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split(b"-")))
