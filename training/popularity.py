"""Popularity: interactions, the recent ones counting more, overall and within each category."""

from typing import Final

import numpy as np

from feature_repo.arrays import Float32, Int32, Int64
from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import DAY

HALF_LIFE: Final = 14 * DAY
"""An interaction this old counts half."""
PER_CATEGORY: Final = 100


def popularity(log: EncodedLog, as_of: int) -> Float32:
    """float32[items]: each item's share of the interactions before ``as_of``, an old one counting less."""
    active = log.before(as_of).interactions()
    weights = np.exp2((active.time - as_of) / HALF_LIFE)
    share = np.bincount(active.item, weights, minlength=len(active.item_ids))
    return (share / max(share.sum(), 1e-12)).astype(np.float32)


def most_popular(share: Float32) -> tuple[Int32, Float32]:
    """All items and their shares, the most popular first."""
    order = np.lexsort((np.arange(share.size), -share)).astype(np.int32)
    return order, share[order]


def most_popular_by_category(
    share: Float32, category: Int32, categories: int
) -> tuple[Int32, Float32, Int64]:
    """The PER_CATEGORY most popular items of each category that anyone met, and their shares within the category.

    Returns items, shares and offsets int64[categories + 1]: category c is [offsets[c], offsets[c + 1]).
    """
    candidates = np.flatnonzero((category >= 0) & (share > 0)).astype(np.int32)
    order = candidates[np.lexsort((candidates, -share[candidates], category[candidates]))]
    sorted_category = category[order]
    place = np.arange(order.size) - np.searchsorted(sorted_category, sorted_category)
    items = order[place < PER_CATEGORY]
    totals = np.bincount(category[candidates], share[candidates], minlength=categories)
    offsets = np.searchsorted(category[items], np.arange(categories + 1))
    return items, (share[items] / totals[category[items]]).astype(np.float32), offsets
