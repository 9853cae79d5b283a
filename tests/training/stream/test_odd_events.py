"""Late, early, repeated, reordered and stolen events: what windows, counts and the archive make of them."""

import time
from collections import Counter

import pytest
from redis import Redis

from feature_repo.archive import Archive
from feature_repo.event_log import EventLog
from feature_repo.events import LoggedEvent, to_table
from feature_repo.item_activity import ACTIVITY_WINDOWS
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.schema import DAY, HOUR, MINUTE, SECOND
from feature_repo.settings import Settings
from tests.feature_repo.log_events import event
from training.ingest import drain
from training.stream.consumer import Consumer
from training.stream.counting import Counting

pytestmark = pytest.mark.anyio

_, _, HOURS = ACTIVITY_WINDOWS


def at(number: int, moment: int, **columns: object) -> LoggedEvent:
    """Event ``number``, which happened at a moment."""
    return event(number, **{"timestamp": moment, "arrival_time": moment} | columns)


async def consumed(log: EventLog, settings: Settings) -> Archive:
    """The archive when all groups are done with the log."""
    group = Counting()
    await Consumer(group, log.reader(group.name, "one"), batch_size=1000, patience=2).round()
    archive = Archive(settings.archive_dir)
    await drain(log, archive, settings)
    archive.compact()
    return archive


async def views_today(log: EventLog, now: int) -> dict[str, int]:
    """How often each item was viewed in the last day, as the counts say."""
    total: Counter[str] = Counter()
    for partition in range(log.partitions):
        for bucket in await log.item_counts(
            partition, [(HOURS.name, start) for start in HOURS.starts(now + 10 * MINUTE)]
        ):
            total.update(bucket)
    return {field.removeprefix("view:"): number for field, number in total.items()}


async def window_ids(log: EventLog, user_id: str) -> list[str]:
    return [seen.event_id for seen in (await log.shopper(user_id, None)).window]


async def test_an_event_from_far_back_stands_where_it_happened(log: EventLog, settings: Settings) -> None:
    now = time.time_ns() // 1000
    await log.append([at(1, now), at(2, now - 300 * DAY)])
    archive = await consumed(log, settings)
    assert await window_ids(log, "ann") == ["e002", "e001"]
    assert await views_today(log, now) == {"i1": 1}
    assert archive.read(end=now - 299 * DAY).equals(to_table([at(2, now - 300 * DAY)]))


async def test_a_clock_that_runs_ahead_moves_its_own_event_and_no_other(
    log: EventLog, settings: Settings
) -> None:
    now = time.time_ns() // 1000
    await log.append([at(1, now + 4 * MINUTE)])
    await log.append([at(2, now), at(3, now + SECOND)])
    await consumed(log, settings)
    assert await window_ids(log, "ann") == ["e002", "e003", "e001"]
    assert await views_today(log, now) == {"i1": 1, "i2": 1, "i3": 1}


async def test_reordered_and_repeated_events_leave_what_ordered_ones_leave(
    log: EventLog, settings: Settings
) -> None:
    now = time.time_ns() // 1000
    events = [at(number, now - number * MINUTE) for number in range(20)]
    for batch in (events[::-2], events[::2], events[5:15], events[::-1]):
        await log.append(batch)
    archive = await consumed(log, settings)
    assert await window_ids(log, "ann") == [one.event_id for one in reversed(events)]
    assert await views_today(log, now) == {f"i{number}": 1 for number in range(20)}
    assert archive.read().equals(to_table(events[::-1]))


async def test_an_event_id_under_another_shopper_stands_once_in_the_archive(
    log: EventLog, settings: Settings
) -> None:
    now = time.time_ns() // 1000
    first, stolen = at(1, now), at(1, now, user_id="thief", arrival_time=now + SECOND)
    await log.append([stolen])
    await log.append([first])
    archive = await consumed(log, settings)
    assert archive.read().equals(to_table([first]))  # which arrived first
    assert await window_ids(log, "ann") == await window_ids(log, "thief") == ["e001"]


@pytest.mark.integration
async def test_a_duplicate_after_more_than_a_day_changes_neither_window_nor_counts_nor_archive(
    clean_redis: Redis, redis_url: str, settings: Settings
) -> None:
    log = RedisEventLog.connect(redis_url, settings)
    now = time.time_ns() // 1000
    old = at(1, now - round(settings.dedup_hours * HOUR) - MINUTE)
    await log.append([old])
    await consumed(log, settings)
    marks = [key for key in clean_redis.keys() if b":seen:" in key]  # type: ignore[union-attr]  # noqa: SIM118
    assert len(marks) == 1
    clean_redis.delete(*marks)  # they have expired
    await log.append([old])
    archive = await consumed(log, settings)
    assert archive.read().equals(to_table([old]))
    assert await window_ids(log, "ann") == ["e001"]
    assert await views_today(log, now) == {}
    await log.aclose()
