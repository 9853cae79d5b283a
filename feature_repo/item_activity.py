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

from feature_repo.arrays import Float32, Float64, Int32, Int64
from feature_repo.compiled import INT, INT32_ROWS, INT64S, compilable, compiled
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
        return activity_features(self.counts.take(items, axis=0), self.totals, len(self.counts))


Counts = Float64 | Int32

PRIOR_WEIGHT: Final = 20.0
"""Pseudo-observations of the shop's mean that smooth every rate (empirical Bayes with a fixed weight)."""


@compilable
def log_share(counts: Counts, total: float, items: int) -> Float64:
    """Log of each count's share of the ``total`` of so many items, times their number: 0 for the mean.

    One pseudo-count is spread over all, so that it is finite for the unseen.
    """
    return np.log((counts + 1 / items) / (total + 1) * items)


@compilable
def smoothed_rate(successes: Counts, all_successes: float, trials: Counts, all_trials: float) -> Float64:
    """Each rate drawn towards the mean of all; NaN where nothing was tried and so no mean is known."""
    mean = all_successes / all_trials if all_trials else np.nan
    return (successes + PRIOR_WEIGHT * mean) / (trials + PRIOR_WEIGHT)


def _place(name: str) -> int:
    return [count.name for count in ACTIVITY_COUNTS].index(name)


_MET_5M: Final = _place("item_interactions_5m")
_MET_1H: Final = _place("item_interactions_1h")
_MET_24H: Final = _place("item_interactions_24h")
_CARTED: Final = _place("item_carts_24h")
_PURCHASED: Final = _place("item_purchases_24h")
_CLICKED: Final = _place("item_clicks_24h")
_SHOWN: Final = _place("item_impressions_24h")


@compiled(INT32_ROWS, INT64S, INT)
def activity_features(counts: Int32, totals: Int64, items: int) -> Float32:
    """float32[n, len(ACTIVITY_FEATURES)] of counts int32[n, len(ACTIVITY_COUNTS)], in a shop of so many items.

    totals int64[len(ACTIVITY_COUNTS)]: the counts of all items together.
    """
    met, all_met = counts[:, _MET_24H], totals[_MET_24H]
    share_1h = log_share(counts[:, _MET_1H], totals[_MET_1H], items)
    share_24h = log_share(met, all_met, items)
    features = np.empty((len(counts), len(ACTIVITY_FEATURES)), np.float32)
    features[:, 0] = log_share(counts[:, _MET_5M], totals[_MET_5M], items)
    features[:, 1] = share_1h
    features[:, 2] = share_24h
    features[:, 3] = share_1h - share_24h
    features[:, 4] = smoothed_rate(counts[:, _CARTED], totals[_CARTED], met, all_met)
    features[:, 5] = smoothed_rate(counts[:, _PURCHASED], totals[_PURCHASED], met, all_met)
    features[:, 6] = smoothed_rate(counts[:, _CLICKED], totals[_CLICKED], counts[:, _SHOWN], totals[_SHOWN])
    return features


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
