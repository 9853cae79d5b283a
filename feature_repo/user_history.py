"""A shopper's whole history by item: how often each was met and bought, and when."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from feature_repo.arrays import Float32, Float64, Int32, Int64
from feature_repo.compiled import FLOAT32S, INT, INT32S, INT64S, compiled, together
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
    parts = (history.items, history.visits, history.purchases, history.first, history.last)
    return _history_features(items, parts, history.total_visits, as_of)


@compiled(INT32S, together(INT32S, FLOAT32S, FLOAT32S, INT64S, INT64S), INT, INT)
def _history_features(
    items: Int32, history: tuple[Int32, Float32, Float32, Int64, Int64], total_visits: int, as_of: int
) -> Float32:
    met, visits, purchases, first, last = history
    columns = np.full((items.size, len(HISTORY_FEATURES)), np.nan, dtype=np.float32)
    columns[:, :3] = 0
    for row in range(items.size):
        place = np.searchsorted(met, items[row])
        if place == met.size or met[place] != items[row]:
            continue
        days_since_last = max(as_of - last[place], 0) / DAY
        columns[row, 0] = visits[place]
        columns[row, 1] = visits[place] / total_visits
        columns[row, 2] = purchases[place]
        columns[row, 3] = np.log1p(days_since_last)
        columns[row, 4] = np.log1p(max(as_of - first[place], 0) / DAY)
        repeats = visits[place] - 1
        if repeats > 0:
            span = (last[place] - first[place]) / DAY
            columns[row, 5] = days_since_last * repeats / (span + 1)
    return columns


def days_since(moment: Int64, as_of: int) -> Float64:
    """float64: days from each moment (microseconds) to ``as_of``, 0 for what is ahead of it."""
    return np.maximum(as_of - moment, 0) / DAY
