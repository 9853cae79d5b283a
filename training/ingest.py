"""Drain the event log into the archive."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from feature_repo.archive import Archive
from feature_repo.event_log import EventLog
from feature_repo.events import LoggedEvent, to_table
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.settings import Settings
from serving.embedded_redis import embedded_redis

GROUP = "archive"
"""Consumer group of the archive."""


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
            return await drain(log, Archive(settings.archive_dir))
        finally:
            await log.aclose()

    with embedded_redis(settings) as url:
        until = time.time_ns() // 1000
        return Ingested(asyncio.run(run(url)), until)


async def drain(log: EventLog, archive: Archive, *, batch_size: int = 2000) -> int:
    """Move what the log holds into the archive; returns the number of events.

    A round takes up to ``batch_size`` events from each partition, so few files are written. Events are
    acknowledged only when the archive has them on disk: after a crash they come again, and compaction leaves
    each once. Entries that every group has passed are then trimmed.
    Raises LogUnavailableError when the log cannot be reached; what was not acknowledged comes again.
    """
    moved = 0
    while True:
        batches = [
            await log.deliver(GROUP, GROUP, partition, batch_size) for partition in range(log.partitions)
        ]
        events = [event for batch in batches for _, event in batch]
        if events:
            archive.append(to_table(events))
            await _pass(log, batches)
            moved += len(events)
        if all(len(batch) < batch_size for batch in batches):
            return moved


async def _pass(log: EventLog, batches: Sequence[Sequence[tuple[str, LoggedEvent]]]) -> None:
    for partition, batch in enumerate(batches):
        if batch:
            await log.acknowledge(GROUP, partition, [entry_id for entry_id, _ in batch])
            await log.trim(partition)
