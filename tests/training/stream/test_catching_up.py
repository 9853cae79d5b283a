"""A group that stood still while the shop went on finds everything it has not passed, over a real Redis."""

import time

import pytest
from redis import Redis

from feature_repo.archive import Archive
from feature_repo.events import LoggedEvent
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.redis_layout import stream_key
from feature_repo.schema import HOUR, MINUTE, SECOND
from feature_repo.settings import Settings
from tests.chaos_verdict import archived_events, count_differences
from tests.feature_repo.log_events import event
from training.stream.consumer import Consumer
from training.stream.groups import groups

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

EVENTS_PER_SECOND = 3
EVENTS_PER_MINUTE = 60 * EVENTS_PER_SECOND


def minute_of_traffic(start: int, number: int) -> list[LoggedEvent]:
    first = number * EVENTS_PER_MINUTE
    return [
        event(
            n,
            timestamp=start + n * SECOND // EVENTS_PER_SECOND,
            item_id=f"i{n % 50}",
            user_id=f"user-{n % 700}",
        )
        for n in range(first, first + EVENTS_PER_MINUTE)
    ]


async def pass_everything(consumer: Consumer) -> int:
    """Entries that a consumer did until it found no more."""
    done, more = await consumer.round()
    while more:
        also, more = await consumer.round()
        done += also
    return done


@pytest.mark.parametrize("stopped", ["archive", "aggregates"])
async def test_a_group_that_was_stopped_for_an_hour_catches_up_and_nothing_it_needs_was_trimmed(
    clean_redis: Redis, redis_url: str, settings: Settings, stopped: str
) -> None:
    log = RedisEventLog.connect(redis_url, settings)
    consumers = {}
    for group in groups(settings):
        reader = log.reader(group.name, "one")
        await reader.join()
        consumers[group.name] = Consumer(group, reader, batch_size=100, patience=5)
    [running] = consumers.keys() - {stopped}
    start = time.time_ns() // 1000 - HOUR - MINUTE
    sent = minute_of_traffic(start, 0)
    await log.append(sent)
    for consumer in consumers.values():
        assert await pass_everything(consumer) == EVENTS_PER_MINUTE
    for number in range(1, 61):
        batch = minute_of_traffic(start, number)
        await log.append(batch)
        sent += batch
        assert await pass_everything(consumers[running]) == EVENTS_PER_MINUTE

    def kept() -> int:
        streams = map(stream_key, range(log.partitions))
        return sum(clean_redis.xlen(stream) for stream in streams)  # type: ignore[misc]

    missed = 60 * EVENTS_PER_MINUTE
    # Beside them only the last entry of a partition that the stopped group had passed.
    assert missed <= kept() <= missed + log.partitions
    assert await pass_everything(consumers[stopped]) == missed
    assert sorted(one.event_id for one in archived_events(Archive(settings.archive_dir))) == sorted(
        one.event_id for one in sent
    )
    assert await count_differences(log, sent) == []
    assert kept() == log.partitions
    await log.aclose()
