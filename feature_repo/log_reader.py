"""The reading side of the event log: each group of consumers is given every entry, and each entry until it is done.

A consumer is given entries, does something with them, and acknowledges. What it does must be such that doing it
twice is doing it once: an entry comes again when a consumer dies in between.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from feature_repo.events import LoggedEvent
from feature_repo.item_activity import Count

ARCHIVE_GROUP: Final = "archive"
"""The group that moves entries to the archive. None leaves the log before this group has passed it."""


class Delivery(NamedTuple):
    """An entry of the log; ``content`` is the JSON of its event."""

    entry_id: str
    content: bytes

    def event(self) -> LoggedEvent:
        """The event. Raises ValueError or TypeError where the content is none."""
        return LoggedEvent.from_json(self.content)


class DeadLetter(NamedTuple):
    """An entry that ``group`` could not process, for ``reason``; others may have processed it."""

    letter_id: str
    group: str
    reason: str
    content: bytes


class Lag(NamedTuple):
    """Entries that a group is not done with, and when the oldest of them was logged (microseconds since 1970)."""

    entries: int
    since: int | None


class LogReader(Protocol):
    """One consumer of one group. Every method raises LogUnavailableError when the log cannot be reached."""

    @property
    def group(self) -> str:
        """Name of the group."""

    @property
    def partitions(self) -> int:
        """Number of partitions; they count from 0."""

    async def join(self) -> None:
        """Make the group known, so that nothing is trimmed from now on before it has passed it."""

    async def deliver(self, partition: int, count: int) -> list[Delivery]:
        """At most ``count`` entries of a partition, in the order they were logged.

        First those that this consumer was given and has not acknowledged, then new ones. Fewer than ``count``
        means that there were no more. A group begins at the oldest entry there is.
        """

    async def acknowledge(self, partition: int, entry_ids: Sequence[str]) -> None:
        """Take note that the group is done with these entries."""

    async def count(self, partition: int, counts: Mapping[str, Sequence[Count]]) -> None:
        """Acknowledge entries by their id, and let each add to the item counts what it is given with, in one step.

        An entry that was acknowledged before adds nothing.
        """

    async def take_over(self, partition: int, idle_seconds: float) -> int:
        """Make entries one's own that another consumer was given so long ago, or longer; returns how many.

        The time must be above what a living consumer needs for a batch.
        """

    async def deliveries(self, partition: int, entry_id: str) -> int:
        """How often an entry that is not acknowledged was delivered."""

    async def bury(self, partition: int, delivery: Delivery, reason: str) -> None:
        """Put an entry among the dead letters, and acknowledge it; both or neither happens."""

    async def dead_letters(self, partition: int) -> list[DeadLetter]:
        """The dead letters of all groups, the oldest first."""

    async def dead_letter_count(self, partition: int) -> int:
        """How many dead letters there are."""

    async def exhume(self, partition: int, letter_ids: Sequence[str]) -> None:
        """Remove dead letters."""

    async def trim(self, partition: int) -> int:
        """Remove the entries that every known group has acknowledged, ARCHIVE_GROUP among them; how many went."""

    async def lag(self, partition: int) -> Lag:
        """How far the group is behind."""
