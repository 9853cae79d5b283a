"""What happens to items right now: counts by event type in the last 5 minutes, hour and day.

Time is cut into buckets by event time, so that a late event counts where it belongs. A window is made of the
buckets that began within it: the newest is not over yet, and the oldest is whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from feature_repo.events import LoggedEvent
from feature_repo.schema import HOUR, MINUTE


@dataclass(frozen=True)
class ActivityWindow:
    """A window of so many buckets, each ``bucket`` microseconds long."""

    name: str
    bucket: int
    buckets: int

    @property
    def length(self) -> int:
        """Microseconds."""
        return self.bucket * self.buckets

    def bucket_of(self, timestamp: int) -> int:
        """Where the bucket of a moment begins."""
        return timestamp - timestamp % self.bucket

    def starts(self, as_of: int) -> range:
        """Where the buckets of the window begin that ends at a moment, the oldest first."""
        newest = self.bucket_of(as_of)
        return range(newest - self.length + self.bucket, newest + 1, self.bucket)


ACTIVITY_WINDOWS: Final = (
    ActivityWindow("5m", MINUTE, 5),
    ActivityWindow("1h", 5 * MINUTE, 12),
    ActivityWindow("24h", HOUR, 24),
)


class Count(NamedTuple):
    """One more event of ``event_type`` with ``item_id``, in the bucket of ``window`` that began at ``start``."""

    window: ActivityWindow
    start: int
    event_type: str
    item_id: str

    @property
    def forgotten(self) -> int:
        """When the bucket leaves its window, in microseconds since 1970."""
        return self.start + self.window.length


def counts_of(event: LoggedEvent, now: int) -> Iterator[Count]:
    """What an event adds to the buckets that are not forgotten ``now``; nothing where it names no item."""
    if event.item_id is None:
        return
    for window in ACTIVITY_WINDOWS:
        count = Count(window, window.bucket_of(event.timestamp), event.event_type, event.item_id)
        if count.forgotten > now:
            yield count
