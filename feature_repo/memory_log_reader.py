"""A consumer of the event log in memory."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from feature_repo.item_activity import Count
from feature_repo.log_reader import ARCHIVE_GROUP, DeadLetter, Delivery, Lag
from feature_repo.redis_layout import count_field


@dataclass
class Pending:
    """An entry that a consumer was given ``deliveries`` times, last at ``since``, and has not acknowledged."""

    consumer: str
    deliveries: int
    since: float


@dataclass
class MemoryGroup:
    """What a group was given of a partition: all up to ``delivered``, of which it is not done with ``pending``."""

    delivered: int = -1
    pending: dict[int, Pending] = field(default_factory=dict)


@dataclass
class MemoryStream:
    """A partition: the content of entries and when each was logged, its groups, dead letters, item counts."""

    entries: dict[int, bytes] = field(default_factory=dict)
    logged: dict[int, int] = field(default_factory=dict)
    groups: dict[str, MemoryGroup] = field(default_factory=dict)
    dead: list[DeadLetter] = field(default_factory=list)
    counts: dict[tuple[str, int], Counter[str]] = field(default_factory=dict)
    added: int = 0

    def add(self, content: bytes) -> None:
        """Log an entry."""
        self.entries[self.added] = content
        self.logged[self.added] = time.time_ns() // 1000
        self.added += 1

    def count(self, counts: Sequence[Count]) -> None:
        """Add to the item counts."""
        for count in counts:
            bucket = self.counts.setdefault((count.window.name, count.start), Counter())
            bucket[count_field(count.event_type, count.item_id)] += 1

    def remove(self, entries: Sequence[int]) -> None:
        """Forget entries, whoever still waits for them."""
        for entry in entries:
            del self.entries[entry], self.logged[entry]


class MemoryLogReader:
    """See LogReader."""

    def __init__(self, streams: Sequence[MemoryStream], group: str, consumer: str) -> None:
        self._streams = streams
        self.group = group
        self._consumer = consumer

    @property
    def partitions(self) -> int:
        """Number of partitions; they count from 0."""
        return len(self._streams)

    async def join(self) -> None:
        """See LogReader."""
        for stream in self._streams:
            stream.groups.setdefault(self.group, MemoryGroup())

    async def deliver(self, partition: int, count: int) -> list[Delivery]:
        """See LogReader."""
        stream = self._streams[partition]
        group = stream.groups.setdefault(self.group, MemoryGroup())
        for erased in [entry for entry in group.pending if entry not in stream.entries]:
            del group.pending[erased]
        mine = (entry for entry, given in group.pending.items() if given.consumer == self._consumer)
        again = list(islice(mine, count))
        new = list(islice((entry for entry in stream.entries if entry > group.delivered), count - len(again)))
        for entry in again + new:
            before = group.pending[entry].deliveries if entry in group.pending else 0
            group.pending[entry] = Pending(self._consumer, before + 1, time.monotonic())
        group.delivered = max([group.delivered, *new])
        return [Delivery(str(entry), stream.entries[entry]) for entry in again + new]

    async def acknowledge(self, partition: int, entry_ids: Sequence[str]) -> None:
        """See LogReader."""
        for entry_id in entry_ids:
            self._group_of(partition).pending.pop(int(entry_id), None)

    async def count(self, partition: int, counts: Mapping[str, Sequence[Count]]) -> None:
        """See LogReader."""
        pending = self._group_of(partition).pending
        for entry_id, added in counts.items():
            if pending.pop(int(entry_id), None):
                self._streams[partition].count(added)

    async def take_over(self, partition: int, idle_seconds: float) -> int:
        """See LogReader."""
        left = time.monotonic() - idle_seconds
        idle = [given for given in self._group_of(partition).pending.values() if given.since <= left]
        for given in idle:
            given.consumer, given.since = self._consumer, time.monotonic()
        return len(idle)

    async def deliveries(self, partition: int, entry_id: str) -> int:
        """See LogReader."""
        given = self._group_of(partition).pending.get(int(entry_id))
        return given.deliveries if given else 0

    async def bury(self, partition: int, delivery: Delivery, reason: str) -> None:
        """See LogReader."""
        if self._group_of(partition).pending.pop(int(delivery.entry_id), None):
            letter = DeadLetter(delivery.entry_id, self.group, reason, delivery.content)
            self._streams[partition].dead.append(letter)

    async def dead_letters(self, partition: int) -> list[DeadLetter]:
        """See LogReader."""
        return list(self._streams[partition].dead)

    async def dead_letter_count(self, partition: int) -> int:
        """See LogReader."""
        return len(self._streams[partition].dead)

    async def exhume(self, partition: int, letter_ids: Sequence[str]) -> None:
        """See LogReader."""
        stream = self._streams[partition]
        stream.dead = [letter for letter in stream.dead if letter.letter_id not in letter_ids]

    async def trim(self, partition: int) -> int:
        """See LogReader."""
        stream = self._streams[partition]
        if ARCHIVE_GROUP not in stream.groups:
            return 0
        needed = [min(group.pending, default=group.delivered) for group in stream.groups.values()]
        passed = [entry for entry in stream.entries if entry < min(needed)]
        stream.remove(passed)
        return len(passed)

    async def lag(self, partition: int) -> Lag:
        """See LogReader."""
        stream, group = self._streams[partition], self._group_of(partition)
        behind = [entry for entry in stream.entries if entry > group.delivered or entry in group.pending]
        return Lag(len(behind), stream.logged[behind[0]] if behind else None)

    def _group_of(self, partition: int) -> MemoryGroup:
        return self._streams[partition].groups.get(self.group, MemoryGroup())


class MemoryLetterReader(MemoryLogReader):
    """See EventLog.letters. What fails again stays a dead letter."""

    async def deliver(self, partition: int, count: int) -> list[Delivery]:
        """The oldest letters of the group."""
        mine = [letter for letter in self._streams[partition].dead if letter.group == self.group]
        return [Delivery(letter.letter_id, letter.content) for letter in mine[:count]]

    async def acknowledge(self, partition: int, entry_ids: Sequence[str]) -> None:
        """Remove letters."""
        await self.exhume(partition, entry_ids)

    async def count(self, partition: int, counts: Mapping[str, Sequence[Count]]) -> None:
        """Remove letters and count them."""
        for letter_id, added in counts.items():
            if letter_id in {letter.letter_id for letter in self._streams[partition].dead}:
                await self.exhume(partition, [letter_id])
                self._streams[partition].count(added)

    async def deliveries(self, partition: int, entry_id: str) -> int:
        """None that counts: a letter is not buried again."""
        return 0

    async def trim(self, partition: int) -> int:
        """Letters are not trimmed."""
        return 0
