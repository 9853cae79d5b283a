"""Reading from one Redis, between a request and its answer: at the least cost, and with one retry."""

import asyncio
from collections.abc import Sequence
from typing import Any, Self

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo.redis_functions import Call


class RedisReading:
    """Sends commands that only read, all that belong together in one piece.

    It takes connections as they lie: to look whether one is sound takes about as long as to read. One that was lost
    meanwhile is found out when it is used, and to read once more does no harm.
    """

    def __init__(self, pool: ConnectionPool, patience: float) -> None:
        self._pool = pool
        self._patience = patience

    @classmethod
    def connect(cls, url: str, patience: float) -> Self:
        """Reads from the Redis at ``url``; it connects when first used, and waits for ``patience`` seconds."""
        pool = _ReadyConnections.from_url(
            url, socket_connect_timeout=patience, socket_timeout=None, retry=Retry(NoBackoff(), 1)
        )
        return cls(pool, patience)

    async def send(self, commands: Sequence[Call]) -> list[Any]:
        """Replies as Redis sends them, errors among them, in one round trip. Raises redis' own errors.

        One deadline is over all of it: one for each reply takes longer than the replies.
        """
        request = b"".join(hiredis.pack_command(command) for command in commands)  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(self._patience):
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                try:
                    return await connection.retry.call_with_retry(
                        lambda: _exchanged(connection, request, len(commands)),
                        lambda _: connection.disconnect(),
                    )
                finally:
                    await self._pool.release(connection)
        except TimeoutError:
            raise RedisTimeoutError(f"no reply within {self._patience:g} seconds") from None

    async def aclose(self) -> None:
        """Let go of all connections."""
        await self._pool.aclose()


class _ReadyConnections(ConnectionPool):
    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect it, if it never was."""
        await connection.connect()  # type: ignore[no-untyped-call]


async def _exchanged(connection: AbstractConnection, request: bytes, replies: int) -> list[Any]:
    await connection.send_packed_command(request)
    return [await _reply(connection) for _ in range(replies)]


async def _reply(connection: AbstractConnection) -> Any:
    """A reply; an error, too, so that those behind it do not stay in the connection."""
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
