"""A shopper's whole history by item: how often each was met and bought, and when."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from feature_repo.arrays import Float32, Float64, Int32, Int64
from feature_repo.schema import DAY

HISTORY_FEATURES: Final = (
    "history_visits",
    "history_visit_share",
    "history_purchases",
    "history_log_days_since_last",
    "history_log_days_since_first",
    "history_overdue",
)
"""Of a shopper with an item: in how many visits it was met, and in which share of all; how often it was bought;
how long ago it was met first and last; the time since the last over the usual time between two visits with it."""


@dataclass(frozen=True)
class UserHistory:
    """The items of one shopper, sorted by item, as of the training.

    items int32[h]; visits, purchases float32[h]; first, last int64[h], microseconds; total_visits: of the shopper.
    """

    items: Int32
    visits: Float32
    purchases: Float32
    first: Int64
    last: Int64
    total_visits: int


NO_HISTORY: Final = UserHistory(
    np.zeros(0, np.int32),
    np.zeros(0, np.float32),
    np.zeros(0, np.float32),
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    0,
)


def history_features(items: Int32, history: UserHistory, as_of: int) -> Float32:
    """float32[items, len(HISTORY_FEATURES)]: each item's part in the history; NaN times where it has none."""
    columns = np.full((items.size, len(HISTORY_FEATURES)), np.nan, dtype=np.float32)
    columns[:, :3] = 0
    if not history.items.size:
        return columns
    place = np.minimum(np.searchsorted(history.items, items), history.items.size - 1)
    met = history.items[place] == items
    place = place[met]
    visits = history.visits[place]
    columns[met, 0] = visits
    columns[met, 1] = visits / history.total_visits
    columns[met, 2] = history.purchases[place]
    columns[met, 3] = np.log1p(days_since(history.last[place], as_of))
    columns[met, 4] = np.log1p(days_since(history.first[place], as_of))
    columns[met, 5] = overdue(history, place, as_of)
    return columns


def overdue(history: UserHistory, place: Int64, as_of: int) -> Float64:
    """Days since the items at ``place`` were met over the mean days between visits with them; NaN for one visit."""
    repeats = history.visits[place] - 1
    span = (history.last[place] - history.first[place]) / DAY
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(repeats > 0, days_since(history.last[place], as_of) * repeats / (span + 1), np.nan)


def days_since(moment: Int64, as_of: int) -> Float64:
    """float64: days from each moment (microseconds) to ``as_of``, 0 for what is ahead of it."""
    return np.maximum(as_of - moment, 0) / DAY
