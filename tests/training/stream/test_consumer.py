"""A consumer does every entry, however its fellows die, and buries what cannot be done; the same on both logs."""

import pytest

from feature_repo.event_log import EventLog, partition_of
from feature_repo.log_reader import LogReader
from tests.feature_repo.log_events import event
from training.stream.consumer import Batches, Consumer

pytestmark = pytest.mark.anyio

ANN = "u:ann"
PATIENCE = 3
SHOPPERS = [event(number, user_id=f"user-{number % 7}") for number in range(40)]


class Recording:
    """Remembers the ids of events; those of ``poison`` it cannot process."""

    name = "recording"
    rest_seconds = 0.0

    def __init__(self, *poison: str) -> None:
        self.poison = set(poison)
        self.done: list[str] = []

    async def process(self, reader: LogReader, batches: Batches) -> None:
        """See Group."""
        ids = [delivery.event().event_id for batch in batches.values() for delivery in batch]
        if self.poison & set(ids):
            raise ValueError("cannot be")
        self.done += ids
        for partition, batch in batches.items():
            await reader.acknowledge(partition, [delivery.entry_id for delivery in batch])


def consumer_of(log: EventLog, group: Recording, name: str = "one", batch_size: int = 100) -> Consumer:
    return Consumer(group, log.reader(group.name, name), batch_size=batch_size, patience=PATIENCE)


def ids(*numbers: int) -> list[str]:
    return [event(number).event_id for number in numbers]


async def test_every_entry_is_done_once_whatever_the_size_of_a_batch(log: EventLog) -> None:
    await log.append(SHOPPERS)
    group = Recording()
    consumer = consumer_of(log, group, batch_size=3)
    more = True
    while more:
        _, more = await consumer.round()
    assert sorted(group.done) == ids(*range(40))
    assert await consumer.round() == (0, False)


@pytest.mark.parametrize("poison", [(0,), (39,), (3, 4, 20), tuple(range(40))])
async def test_what_cannot_be_done_is_buried_after_some_deliveries_and_costs_the_others_nothing(
    log: EventLog, poison: tuple[int, ...]
) -> None:
    await log.append(SHOPPERS)
    group = Recording(*ids(*poison))
    consumer = consumer_of(log, group)
    healthy = [number for number in range(40) if number not in poison]
    assert await consumer.round() == (len(healthy), False)
    assert sorted(group.done) == ids(*healthy)
    reader = log.reader(group.name, "one")
    for _ in range(PATIENCE - 1):
        assert not [letter for n in range(log.partitions) for letter in await reader.dead_letters(n)]
        await consumer.round()
    letters = [letter for n in range(log.partitions) for letter in await reader.dead_letters(n)]
    assert len(letters) == len(poison)
    assert {letter.reason for letter in letters} == {"ValueError: cannot be"}
    assert sum([(await reader.lag(n)).entries for n in range(log.partitions)]) == 0


async def test_an_effect_without_a_place_buries_nothing_and_ends_when_there_is_one(log: EventLog) -> None:
    class Full(Recording):
        full = True

        async def process(self, reader: LogReader, batches: Batches) -> None:
            if self.full:
                raise OSError("no space left on device")
            await super().process(reader, batches)

    await log.append(SHOPPERS)
    group = Full()
    consumer = consumer_of(log, group)
    for _ in range(PATIENCE + 2):
        with pytest.raises(OSError, match="no space"):
            await consumer.round()
    group.full = False
    await consumer.round()
    assert sorted(group.done) == ids(*range(40))


async def test_the_heir_of_a_dead_member_does_what_it_left(log: EventLog) -> None:
    await log.append([event(1), event(2)])
    await log.reader("recording", "dead").deliver(partition_of(ANN, log.partitions), 10)
    group = Recording()
    heir = consumer_of(log, group, "heir")
    assert await heir.round() == (0, False)
    assert await heir.take_over(3600) == 0
    assert await heir.take_over(0) == 2
    assert await heir.round() == (2, False)
    assert group.done == ids(1, 2)


async def test_a_group_that_stands_still_keeps_the_others_from_trimming(log: EventLog) -> None:
    partition = partition_of(ANN, log.partitions)
    slow = log.reader("slow", "one")
    await slow.deliver(partition, 1)
    await log.append([event(number) for number in range(10)])
    group = Recording()
    await consumer_of(log, group).round()
    assert [delivery.event().event_id for delivery in await slow.deliver(partition, 100)] == group.done
