"""What happens to items is counted once, in the bucket of its event time; the same on both logs."""

import asyncio
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from feature_repo.event_log import EventLog, partition_of
from feature_repo.events import LoggedEvent
from feature_repo.item_activity import ACTIVITY_WINDOWS, ActivityWindow
from feature_repo.schema import DAY, HOUR, MINUTE, SECOND, EventType
from feature_repo.settings import Settings
from tests.conftest import OpenLog
from tests.feature_repo.log_events import deliveries, event, histories
from training.stream.consumer import Consumer
from training.stream.counting import Counting
from training.stream.dead_letters import replay

pytestmark = pytest.mark.anyio

MINUTES, FIVE_MINUTES, HOURS = ACTIVITY_WINDOWS
ANN = "u:ann"


def now() -> int:
    return time.time_ns() // 1000


async def counted(log: EventLog, window: ActivityWindow, start: int) -> dict[str, int]:
    """The counts of a bucket in all partitions."""
    total: Counter[str] = Counter()
    for partition in range(log.partitions):
        [found] = await log.item_counts(partition, [(window.name, start)])
        total.update(found)
    return dict(total)


async def count_all(log: EventLog, name: str = "one") -> None:
    group = Counting()
    consumer = Consumer(group, log.reader(group.name, name), batch_size=7, patience=2)
    more = True
    while more:
        _, more = await consumer.round()


@pytest.mark.parametrize(
    ("window", "age", "starts"),
    [
        (MINUTES, 0, [-4, -3, -2, -1, 0]),
        (FIVE_MINUTES, 4 * MINUTE, list(range(-55, 1, 5))),
        (HOURS, 59 * MINUTE, list(range(-23 * 60, 1, 60))),
    ],
)
def test_a_window_is_made_of_the_buckets_that_began_within_it(
    window: ActivityWindow, age: int, starts: list[int]
) -> None:
    hour = 500_000 * HOUR
    assert [(start - hour) // MINUTE for start in window.starts(hour + age)] == starts


async def test_an_event_counts_in_a_bucket_of_each_window(log: EventLog) -> None:
    moment = now()
    await log.append(
        [
            event(1, timestamp=moment),
            event(2, timestamp=moment, item_id="i1", user_id="bob"),
            event(3, timestamp=moment, item_id="i1", event_type=EventType.PURCHASE.value),
            event(4, timestamp=moment, item_id=None, event_type=EventType.SEARCH.value),
        ]
    )
    await count_all(log)
    for window in ACTIVITY_WINDOWS:
        assert await counted(log, window, window.bucket_of(moment)) == {"view:i1": 2, "purchase:i1": 1}


async def test_a_late_event_counts_when_it_happened_and_one_that_is_too_late_nowhere(log: EventLog) -> None:
    moment = now()
    await log.append([event(1, timestamp=moment - 3 * HOUR), event(2, timestamp=moment - 2 * DAY)])
    await count_all(log)
    assert await counted(log, HOURS, HOURS.bucket_of(moment - 3 * HOUR)) == {"view:i1": 1}
    for window in ACTIVITY_WINDOWS:
        assert await counted(log, window, window.bucket_of(moment - 2 * DAY)) == {}
    assert await counted(log, MINUTES, MINUTES.bucket_of(moment - 3 * HOUR)) == {}


async def test_an_entry_counts_once_though_its_consumer_died_before_or_after(log: EventLog) -> None:
    moment, partition = now(), partition_of(ANN, log.partitions)
    await log.append([event(1, timestamp=moment), event(2, timestamp=moment)])
    group = Counting()
    dying = log.reader(group.name, "dying")
    batch = await dying.deliver(partition, 10)
    await group.process(dying, {partition: batch[:1]})  # and dies; the second is left
    await group.process(dying, {partition: batch[:1]})  # a ghost does it again
    heir = Consumer(group, log.reader(group.name, "heir"), batch_size=10, patience=2)
    await heir.take_over(0)
    await heir.round()
    assert await counted(log, HOURS, HOURS.bucket_of(moment)) == {"view:i1": 1, "view:i2": 1}


async def test_a_dead_letter_that_is_replayed_counts_once(log: EventLog) -> None:
    moment, partition = now(), partition_of(ANN, log.partitions)
    await log.append([event(1, timestamp=moment)])
    group = Counting()
    reader = log.reader(group.name, "one")
    [delivery] = await reader.deliver(partition, 10)
    await reader.bury(partition, delivery, "why ever")
    assert await counted(log, HOURS, HOURS.bucket_of(moment)) == {}
    assert await replay(log, group) == 1
    assert await replay(log, group) == 0
    assert await counted(log, HOURS, HOURS.bucket_of(moment)) == {"view:i1": 1}


@hypothesis_settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_counts_depend_on_the_set_of_events_alone(open_log: OpenLog, data: st.DataObject) -> None:
    moment = HOURS.bucket_of(now())
    history = [_at(happened, moment) for happened in data.draw(histories())]
    batches = data.draw(deliveries(history))

    async def deliver_all() -> None:
        async with open_log(Settings(log_partitions=3, redis_timeout_seconds=5)) as log:
            for number, batch in enumerate(batches):
                await log.append(batch)
                if number % 2:
                    await count_all(log)
            await count_all(log)
            expected = Counter(f"{one.event_type}:{one.item_id}" for one in history)
            assert await counted(log, HOURS, moment) == expected

    asyncio.run(deliver_all())


def _at(happened: LoggedEvent, moment: int) -> LoggedEvent:
    """The same event within the hour that begins at a moment."""
    return event(
        int(happened.event_id[1:]),
        timestamp=moment + happened.timestamp % (10 * SECOND),
        event_type=happened.event_type,
        item_id=happened.item_id,
        user_id=happened.user_id,
        visitor_id=happened.visitor_id,
    )
