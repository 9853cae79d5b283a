"""Reading over connections that are taken as they lie."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from feature_repo.redis_reading import RedisReading


@pytest.fixture
async def reading(clean_redis: Redis, redis_url: str) -> AsyncIterator[RedisReading]:
    """Of a Redis that holds a text."""
    clean_redis.set("text", "a")
    reading = RedisReading.connect(redis_url, patience=5)
    yield reading
    await reading.aclose()


@pytest.mark.anyio
@pytest.mark.integration
async def test_an_error_among_the_replies_is_raised_and_leaves_the_next_in_their_places(
    reading: RedisReading,
) -> None:
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await reading.send([("ZRANGE", "text", 0, -1), ("GET", "text")])
    assert await reading.send([("EXISTS", "text", "none")]) == [1]


@pytest.mark.anyio
@pytest.mark.integration
async def test_who_goes_away_before_the_reply_leaves_it_to_nobody_else(reading: RedisReading) -> None:
    await reading.send([("PING",)])
    asking = asyncio.create_task(reading.send([("GET", "text")]))
    await asyncio.sleep(0)  # it has sent, and waits
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await reading.send([("EXISTS", "text")]) == [1]


class Forgetful:
    """Answers commands with OK, two of them when a connection is made, and then forgets the connection."""

    def __init__(self, answers: int, *, politely: bool) -> None:
        self._answers = answers
        self._politely = politely
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        answered = 0
        while answered < self._answers and (commands := (await reader.read(1000)).count(b"*")):
            writer.write(b"+OK\r\n" * commands)
            answered += commands
        if not self._politely:  # closed at once, and so reset
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()


@asynccontextmanager
async def reading_from(redis: Forgetful) -> AsyncIterator[RedisReading]:
    async with await asyncio.start_server(redis.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reading = RedisReading.connect(f"redis://127.0.0.1:{port}?protocol=2", patience=5)
        yield reading
        await reading.aclose()


def runner(loop: Callable[[], asyncio.AbstractEventLoop]) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=loop)


LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])


@LOOPS
@pytest.mark.parametrize("politely", [True, False])
def test_over_a_connection_that_was_lost_meanwhile_is_read_once_more(
    loop: Callable[[], asyncio.AbstractEventLoop],
    politely: bool,  # noqa: FBT001
) -> None:
    async def twice() -> int:
        redis = Forgetful(answers=4, politely=politely)
        async with reading_from(redis) as reading:
            for _ in range(4):
                assert await reading.send([("PING",)]) == [b"OK"]
                await asyncio.sleep(0.01)  # the loss arrives
        return redis.connections

    with runner(loop) as running:
        assert running.run(twice()) > 1


@LOOPS
def test_a_redis_that_loses_every_connection_is_away(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def once() -> int:
        redis = Forgetful(answers=0, politely=False)
        async with reading_from(redis) as reading:
            with pytest.raises(RedisConnectionError):
                await reading.send([("PING",)])
        return redis.connections

    with runner(loop) as running:
        assert running.run(once()) == 2
