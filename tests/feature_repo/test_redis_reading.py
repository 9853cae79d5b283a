import asyncio

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from feature_repo.redis_reading import RedisReading

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def test_an_error_among_the_replies_leaves_the_others_and_the_next_in_their_places(
    clean_redis: Redis, redis_url: str
) -> None:
    clean_redis.set("text", "a")
    reading = RedisReading.connect(redis_url, patience=5)
    wrong, right = await reading.send([("ZRANGE", "text", 0, -1), ("GET", "text")])
    assert (type(wrong), right) == (ResponseError, b"a")
    assert await reading.send([("EXISTS", "text", "none")]) == [1]
    await reading.aclose()


async def test_who_goes_away_before_the_reply_leaves_it_to_nobody_else(
    clean_redis: Redis, redis_url: str
) -> None:
    clean_redis.set("text", "a")
    reading = RedisReading.connect(redis_url, patience=5)
    await reading.send([("PING",)])
    asking = asyncio.create_task(reading.send([("GET", "text")]))
    await asyncio.sleep(0)  # it has sent, and waits
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await reading.send([("EXISTS", "text")]) == [1]
    await reading.aclose()
