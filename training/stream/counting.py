"""The group that counts what happens to items."""

import time

from feature_repo.item_activity import counts_of
from feature_repo.log_reader import LogReader
from training.stream.consumer import Batches


class Counting:
    """An entry is counted and acknowledged in one step, so that each counts once."""

    name = "aggregates"
    rest_seconds = 0.2

    async def process(self, reader: LogReader, batches: Batches) -> None:
        """See Group."""
        now = time.time_ns() // 1000
        counts = {
            partition: {delivery.entry_id: list(counts_of(delivery.event(), now)) for delivery in batch}
            for partition, batch in batches.items()
        }
        for partition, added in counts.items():
            await reader.count(partition, added)
