"""The dead letters of a group in Redis, read as if they were the log."""

from collections.abc import Mapping, Sequence

from feature_repo.item_activity import Count
from feature_repo.log_reader import Delivery
from feature_repo.redis_layout import dead_key
from feature_repo.redis_log_reader import RedisLogReader, count_call

_NO_GROUP = ""


class RedisLetterReader(RedisLogReader):
    """See EventLog.letters. What fails again stays a dead letter."""

    async def deliver(self, partition: int, count: int) -> list[Delivery]:
        """The oldest letters of the group."""
        letters = await self.dead_letters(partition)
        mine = [letter for letter in letters if letter.group == self.group]
        return [Delivery(letter.letter_id, letter.content) for letter in mine[:count]]

    async def acknowledge(self, partition: int, entry_ids: Sequence[str]) -> None:
        """Remove letters."""
        await self.exhume(partition, entry_ids)

    async def count(self, partition: int, counts: Mapping[str, Sequence[Count]]) -> None:
        """Remove letters and count them, in one step."""
        call = count_call(self._functions, partition, dead_key(partition), _NO_GROUP, counts)
        await self._functions.call([call])

    async def deliveries(self, partition: int, entry_id: str) -> int:
        """None that counts: a letter is not buried again."""
        return 0

    async def trim(self, partition: int) -> int:
        """Letters are not trimmed."""
        return 0
