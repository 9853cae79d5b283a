"""Drain the event log into the archive."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from feature_repo.archive import Archive
from feature_repo.event_log import EventLog
from feature_repo.log_reader import LogReader
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.settings import Settings
from serving.embedded_redis import embedded_redis
from training.retention import forget_served
from training.stream.archiving import Archiving
from training.stream.catalog_file import CatalogFile
from training.stream.consumer import Consumer

BATCH: Final = 2000
"""Events of each partition in one round: many, so that few files are written."""
CONSUMER: Final = "ingest"
POLL_SECONDS: Final = 0.1
"""Pause between two looks at what another consumer has under way."""


@dataclass(frozen=True)
class Ingested:
    """Events moved to the archive; what was logged before ``until`` (microseconds since 1970) is there."""

    events: int
    until: int


def ingest(settings: Settings) -> Ingested:
    """Drain the Redis of the settings into their archive, and forget what was served long ago.

    Raises LogUnavailableError.
    """
    forget_served(settings)

    async def run(url: str) -> int:
        log = RedisEventLog.connect(url, settings)
        try:
            await CatalogFile(log.catalog, settings.catalog_dir).write()
            return await drain(log, Archive(settings.archive_dir), settings)
        finally:
            await log.aclose()

    with embedded_redis(settings) as url:
        until = time.time_ns() // 1000
        return Ingested(asyncio.run(run(url)), until)


async def drain(log: EventLog, archive: Archive, settings: Settings, *, batch_size: int = BATCH) -> int:
    """Move what the log holds now into the archive; returns the number of events that this call moved.

    What other consumers hold is waited for, and taken over from the dead. Raises LogUnavailableError when the log
    cannot be reached; what was not acknowledged comes again.
    """
    until = time.time_ns() // 1000
    group = Archiving(archive)
    reader = log.reader(group.name, CONSUMER)
    consumer = Consumer(group, reader, batch_size=batch_size, patience=settings.deliveries_before_burial)
    moved = 0
    while True:
        await consumer.take_over(settings.consumer_idle_seconds)
        more = True
        while more:
            done, more = await consumer.round()
            moved += done
        if not await _is_behind(reader, until):
            return moved
        await asyncio.sleep(POLL_SECONDS)


async def _is_behind(reader: LogReader, until: int) -> bool:
    """Whether the group is not done with something that was logged before a moment."""
    lags = [await reader.lag(partition) for partition in range(reader.partitions)]
    return any(lag.since is not None and lag.since < until for lag in lags)
