"""The group that moves the log into the archive."""

import asyncio

from feature_repo.archive import Archive
from feature_repo.events import to_table
from feature_repo.log_reader import ARCHIVE_GROUP, LogReader
from training.stream.consumer import Batches


class Archiving:
    """Events are on disk before they are acknowledged; after a crash they come again, and compaction leaves one."""

    name = ARCHIVE_GROUP
    rest_seconds = 10.0
    """A round leaves a file; compaction has the fewer to read."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def process(self, reader: LogReader, batches: Batches) -> None:
        """See Group. The entries of all partitions go to one file per date."""
        events = [delivery.event() for batch in batches.values() for delivery in batch]
        await asyncio.to_thread(self._archive.append, to_table(events))
        for partition, batch in batches.items():
            await reader.acknowledge(partition, [delivery.entry_id for delivery in batch])
