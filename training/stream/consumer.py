"""A consumer of the event log: entries take effect, and are acknowledged; what cannot take effect is buried."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from feature_repo.errors import InputError
from feature_repo.log_reader import Delivery, LogReader

Batches = Mapping[int, Sequence[Delivery]]
"""Entries of each partition."""

POISON: Final = (ValueError, TypeError, OverflowError, InputError)
"""What an entry raises that cannot be processed. A full disk or a Redis that is away is no entry's fault."""

logger = logging.getLogger(__name__)


class Group(Protocol):
    """What a group of consumers does with the log."""

    @property
    def name(self) -> str:
        """Name of the group in the log."""

    @property
    def rest_seconds(self) -> float:
        """Pause after a round that found less than a batch."""

    async def process(self, reader: LogReader, batches: Batches) -> None:
        """Let entries take effect, and acknowledge them; entries that come again must change nothing.

        Raises one of POISON, and acknowledges none, when one of them cannot be processed.
        """


class Consumer:
    """One member of a group, which reads every partition."""

    def __init__(self, group: Group, reader: LogReader, *, batch_size: int, patience: int) -> None:
        """batch_size: entries of a partition at a time; patience: deliveries after which an entry is buried."""
        self._group = group
        self._reader = reader
        self._batch_size = batch_size
        self._patience = patience

    async def round(self) -> tuple[int, bool]:
        """Process up to a batch of each partition: how many entries are done, and whether there may be more.

        Entries that every group has passed are then trimmed. Raises LogUnavailableError when the log cannot be
        reached, OSError when the effect has no place; what was not acknowledged comes again.
        """
        found = {
            partition: await self._reader.deliver(partition, self._batch_size)
            for partition in range(self._reader.partitions)
        }
        batches = {partition: batch for partition, batch in found.items() if batch}
        done = await self._process(batches) if batches else 0
        for partition in batches:
            await self._reader.trim(partition)
        return done, any(len(batch) == self._batch_size for batch in found.values())

    async def take_over(self, idle_seconds: float) -> int:
        """Make one's own what members that have fallen silent were given; returns how many entries."""
        return sum(
            [
                await self._reader.take_over(partition, idle_seconds)
                for partition in range(self._reader.partitions)
            ]
        )

    async def _process(self, batches: Batches) -> int:
        """Number of entries that were done; one that cannot be is found by halving."""
        entries = [(partition, delivery) for partition, batch in batches.items() for delivery in batch]
        try:
            await self._group.process(self._reader, batches)
        except POISON as error:
            if len(entries) == 1:
                await self._fail(*entries[0], error)
                return 0
            half = len(entries) // 2
            return await self._process(_by_partition(entries[:half])) + await self._process(
                _by_partition(entries[half:])
            )
        return len(entries)

    async def _fail(self, partition: int, delivery: Delivery, error: Exception) -> None:
        deliveries = await self._reader.deliveries(partition, delivery.entry_id)
        where = f"entry {delivery.entry_id} of partition {partition}"
        if deliveries < self._patience:
            logger.info("%s cannot process %s yet: %s", self._group.name, where, error)
            return
        reason = f"{type(error).__name__}: {error}"
        await self._reader.bury(partition, delivery, reason)
        logger.warning(
            "%s gave up on %s after %d deliveries (%s): see `freshet dead-letters`",
            self._group.name,
            where,
            deliveries,
            reason,
        )


def _by_partition(entries: Sequence[tuple[int, Delivery]]) -> Batches:
    batches: dict[int, list[Delivery]] = {}
    for partition, delivery in entries:
        batches.setdefault(partition, []).append(delivery)
    return batches
