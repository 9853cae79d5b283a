"""What happens to items right now: counts by event type in the last 5 minutes, hour and day.

Time is cut into buckets by event time, so that a late event counts where it belongs. A window is made of the
buckets that began within it: the newest is not over yet, and the oldest is whole.

Servers know the counts as the stream publishes them; a replay counts them in the log. What the ranker makes of them
is one function.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np

from feature_repo.arrays import Float32, Int32, Int64
from feature_repo.batch_features import log_share, smoothed_rate
from feature_repo.events import LoggedEvent
from feature_repo.schema import HOUR, INTERACTION_TYPES, MINUTE, EventType


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


_5M: Final = ActivityWindow("5m", MINUTE, 5)
_1H: Final = ActivityWindow("1h", 5 * MINUTE, 12)
_24H: Final = ActivityWindow("24h", HOUR, 24)
ACTIVITY_WINDOWS: Final = (_5M, _1H, _24H)


class ActivityCount(NamedTuple):
    """The number of an item's events of some types in a window."""

    name: str
    window: ActivityWindow
    types: tuple[EventType, ...]


ACTIVITY_COUNTS: Final = (
    ActivityCount("item_interactions_5m", _5M, INTERACTION_TYPES),
    ActivityCount("item_interactions_1h", _1H, INTERACTION_TYPES),
    ActivityCount("item_interactions_24h", _24H, INTERACTION_TYPES),
    ActivityCount("item_carts_24h", _24H, (EventType.ADD_TO_CART,)),
    ActivityCount("item_purchases_24h", _24H, (EventType.PURCHASE,)),
    ActivityCount("item_clicks_24h", _24H, (EventType.CLICK,)),
    ActivityCount("item_impressions_24h", _24H, (EventType.IMPRESSION,)),
)
"""What is published of each item."""

ACTIVITY_FEATURES: Final = (
    "item_log_share_5m",
    "item_log_share_1h",
    "item_log_share_24h",
    "item_momentum",
    "item_cart_rate_24h",
    "item_purchase_rate_24h",
    "item_click_rate_24h",
)
"""What the ranker sees of it."""


class Activity(Protocol):
    """What is known of the items' activity at a moment."""

    def features(self, items: Int32) -> Float32:
        """float32[n, len(ACTIVITY_FEATURES)] of items, int32[n] indexes; NaN where nothing is known."""


class UnknownActivity:
    """Nobody counts, or what was counted did not arrive."""

    def features(self, items: Int32) -> Float32:
        """See Activity."""
        return np.full((items.size, len(ACTIVITY_FEATURES)), np.nan, np.float32)


UNKNOWN_ACTIVITY: Final = UnknownActivity()


@dataclass(frozen=True)
class ActivityTable:
    """The counts of all items that a model knows, as of one moment.

    counts int32[items, len(ACTIVITY_COUNTS)]; totals int64[len(ACTIVITY_COUNTS)]: the same of every item that the
    log names, also of those that the model does not know.
    """

    counts: Int32
    totals: Int64

    def features(self, items: Int32) -> Float32:
        """See Activity."""
        return activity_features(self.counts[items], self.totals, len(self.counts))


def activity_features(counts: Int32, totals: Int64, items: int) -> Float32:
    """float32[n, len(ACTIVITY_FEATURES)] of counts int32[n, len(ACTIVITY_COUNTS)], in a shop of so many items.

    totals int64[len(ACTIVITY_COUNTS)]: the counts of all items together.
    """
    by_name = {count.name: (counts[:, n], totals[n]) for n, count in enumerate(ACTIVITY_COUNTS)}
    met = by_name["item_interactions_24h"]
    shares = [log_share(*by_name[f"item_interactions_{window.name}"], items) for window in ACTIVITY_WINDOWS]
    columns = [
        *shares,
        shares[1] - shares[2],
        smoothed_rate(*by_name["item_carts_24h"], *met),
        smoothed_rate(*by_name["item_purchases_24h"], *met),
        smoothed_rate(*by_name["item_clicks_24h"], *by_name["item_impressions_24h"]),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


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
