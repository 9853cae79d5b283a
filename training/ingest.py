"""Drain the event log into the archive."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from feature_repo.archive import Archive
from feature_repo.event_log import EventLog
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.settings import Settings
from serving.embedded_redis import embedded_redis
from training.stream.archiving import Archiving
from training.stream.consumer import Consumer

BATCH: Final = 2000
"""Events of each partition in one round: many, so that few files are written."""
CONSUMER: Final = "ingest"


@dataclass(frozen=True)
class Ingested:
    """Events moved to the archive; what was logged before ``until`` (microseconds since 1970) is there."""

    events: int
    until: int


def ingest(settings: Settings) -> Ingested:
    """Drain the Redis of the settings into their archive. Raises LogUnavailableError."""

    async def run(url: str) -> int:
        log = RedisEventLog.connect(url, settings)
        try:
            return await drain(log, Archive(settings.archive_dir), settings)
        finally:
            await log.aclose()

    with embedded_redis(settings) as url:
        until = time.time_ns() // 1000
        return Ingested(asyncio.run(run(url)), until)


async def drain(log: EventLog, archive: Archive, settings: Settings, *, batch_size: int = BATCH) -> int:
    """Move what the log holds into the archive; returns the number of events.

    What a consumer was given that died is taken over. Raises LogUnavailableError when the log cannot be reached;
    what was not acknowledged comes again.
    """
    group = Archiving(archive)
    reader = log.reader(group.name, CONSUMER)
    consumer = Consumer(group, reader, batch_size=batch_size, patience=settings.deliveries_before_burial)
    await consumer.take_over(settings.consumer_idle_seconds)
    moved, more = 0, True
    while more:
        done, more = await consumer.round()
        moved += done
    return moved
