"""The functions of the event log in Redis, and what Redis says when it is away or full."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Final, cast

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import (
    ClusterError,
    ConnectionError,  # noqa: A004
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,  # noqa: A004
)

from feature_repo.errors import LogUnavailableError

_CLOSED: Final = "the handler is closed"
"""What uvloop says, in a RuntimeError, about a connection that was lost just before it is written to."""

Call = tuple[str | bytes | int, ...]


class RedisFunctions:
    """The library of ``event_log.lua`` in a Redis or a cluster; it is loaded where it is missing."""

    def __init__(self, client: "Redis | RedisCluster") -> None:
        self._client = client
        # Servers of two releases may share one Redis: each calls the functions it was shipped with.
        source = files(__package__).joinpath("event_log.lua").read_text()
        self._version = hashlib.sha256(source.encode()).hexdigest()[:12]
        self._library = source.replace("VERSION", self._version)

    def call_of(self, function: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Call:
        """A call of a function by its name in the library; all its keys lie in one slot."""
        return ("FCALL", f"freshet_{function}_{self._version}", len(keys), *keys, *args)

    async def call(self, calls: Sequence[Call]) -> list[Any]:
        """Replies to function calls sent in one round trip; LogUnavailableError when Redis is away or full."""
        with explained():
            replies = await self.send(calls)
            unknown = [n for n, reply in enumerate(replies) if _is_unknown_function(reply)]
            if unknown:
                await cast("Any", self._client.function_load(self._library, replace=True))
                for n, reply in zip(unknown, await self.send([calls[n] for n in unknown]), strict=True):
                    replies[n] = reply
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies

    async def send(self, calls: Sequence[Call]) -> list[Any]:
        """Replies, errors among them."""
        async with self._client.pipeline(transaction=False) as pipe:
            for call in calls:
                pipe.execute_command(*call)
            return await pipe.execute(raise_on_error=False)


@contextmanager
def told_of_loss() -> Iterator[None]:
    """Turn what uvloop says of a connection that was lost into what redis says of it."""
    try:
        yield
    except RuntimeError as error:
        if _CLOSED not in str(error):
            raise
        raise ConnectionError(str(error)) from error


@contextmanager
def explained() -> Iterator[None]:
    """Turn what Redis says when it is away or full into LogUnavailableError."""
    try:
        with told_of_loss():
            yield
    except (ConnectionError, TimeoutError, ClusterError) as error:
        raise LogUnavailableError(
            f"the event log cannot be reached ({error}): see that Redis runs where FRESHET_REDIS_URL or "
            "FRESHET_REDIS_PORT says, then send the same events again"
        ) from error
    except ResponseError as error:
        refused = isinstance(error, OutOfMemoryError | ReadOnlyError)
        if not refused and not str(error).startswith(("MISCONF", "NOREPLICAS", "LOADING")):
            raise
        raise LogUnavailableError(
            f"the event log takes no writes ({error}): give Redis memory or disk, or drain the log, then "
            "send the same events again"
        ) from error


def _is_unknown_function(reply: object) -> bool:
    return isinstance(reply, ResponseError) and "Function not found" in str(reply)
