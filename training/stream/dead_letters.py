"""``freshet dead-letters``: look at the events that could not be processed, and process them again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from rich.console import Console
from rich.table import Table

from feature_repo.event_log import EventLog
from feature_repo.log_reader import DeadLetter
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.settings import Settings
from serving.embedded_redis import embedded_redis
from training.stream.consumer import Consumer, Group
from training.stream.groups import groups

_BATCH: Final = 1000
_SHOWN_CHARACTERS: Final = 200

Result = TypeVar("Result")


class BuriedEvent(NamedTuple):
    """A dead letter and the partition it lies in."""

    partition: int
    letter: DeadLetter


def read(settings: Settings) -> list[BuriedEvent]:
    """All dead letters, by partition, the oldest first. Raises LogUnavailableError."""
    return _with_log(settings, dead_letters)


def replay_all(settings: Settings) -> int:
    """Process all dead letters again; returns how many are done. Raises LogUnavailableError."""

    async def run(log: EventLog) -> int:
        return sum([await replay(log, group) for group in groups(settings)])

    return _with_log(settings, run)


async def dead_letters(log: EventLog) -> list[BuriedEvent]:
    """All dead letters of a log."""
    reader = log.letters("")
    return [
        BuriedEvent(partition, letter)
        for partition in range(log.partitions)
        for letter in await reader.dead_letters(partition)
    ]


async def replay(log: EventLog, group: Group) -> int:
    """Process the dead letters of one group again; returns how many are done."""
    consumer = Consumer(group, log.letters(group.name), batch_size=_BATCH, patience=1)
    done, more = await consumer.round()
    while more:  # a full batch: what failed again comes first, so this ends when nothing else is left
        again, more = await consumer.round()
        done, more = done + again, more and again > 0
    return done


def show(buried: Sequence[BuriedEvent], console: Console) -> None:
    """A table of dead letters."""
    if not buried:
        console.print("no dead letters")
        return
    table = Table("partition", "letter", "group", "reason", "event")
    for partition, letter in buried:
        content = letter.content.decode(errors="replace")
        table.add_row(
            str(partition), letter.letter_id, letter.group, letter.reason, content[:_SHOWN_CHARACTERS]
        )
    console.print(table)


def _with_log(settings: Settings, work: Callable[[EventLog], Awaitable[Result]]) -> Result:
    async def run(url: str) -> Result:
        log = RedisEventLog.connect(url, settings)
        try:
            return await work(log)
        finally:
            await log.aclose()

    with embedded_redis(settings) as url:
        return asyncio.run(run(url))
