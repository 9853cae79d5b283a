"""Reading from one Redis, between a request and its answer: at the least cost, and with one retry."""

from collections.abc import Sequence
from typing import Any, Self

import hiredis
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from feature_repo.redis_functions import Call, told_of_loss


class RedisReading:
    """Sends commands that only read, all that belong together in one piece.

    It takes connections as they lie: to look whether one is sound takes about as long as to read. One that was lost
    meanwhile is found out when it is used, and to read once more does no harm.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    @classmethod
    def connect(cls, url: str, patience: float) -> Self:
        """Reads from the Redis at ``url``; it connects when first used, which may take ``patience`` seconds.

        Whoever reads bounds how long a reply may take.
        """
        pool = _ReadyConnections.from_url(
            url, socket_connect_timeout=patience, socket_timeout=None, retry=Retry(NoBackoff(), 1)
        )
        return cls(pool)

    async def send(self, commands: Sequence[Call]) -> list[Any]:
        """Replies as Redis sends them, in one round trip. Raises redis' own errors, the first of several."""
        request = b"".join(hiredis.pack_command(command) for command in commands)  # type: ignore[arg-type]
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            replies = await connection.retry.call_with_retry(
                lambda: _exchanged(connection, request, len(commands)),
                lambda _: connection.disconnect(),
            )
        finally:
            await self._pool.release(connection)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    async def aclose(self) -> None:
        """Let go of all connections."""
        await self._pool.aclose()


class _ReadyConnections(ConnectionPool):
    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect it, if it never was."""
        await connection.connect()  # type: ignore[no-untyped-call]


async def _exchanged(connection: AbstractConnection, request: bytes, replies: int) -> list[Any]:
    with told_of_loss():
        await connection.send_packed_command(request)
    return [await _reply(connection) for _ in range(replies)]


async def _reply(connection: AbstractConnection) -> Any:
    """A reply; an error, too, so that those behind it do not stay in the connection."""
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
