"""Popularity: interactions, the recent ones counting more, overall and within groups, and what is on the rise."""

from typing import Final

import numpy as np

from feature_repo.arrays import Float32, Float64, Int32, Int64
from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import DAY
from serving.indexes import GroupedLists

HALF_LIFE: Final = 14 * DAY
"""An interaction this old counts half."""
TREND_HALF_LIFE: Final = DAY
"""The same where only what is met right now counts."""
PER_GROUP: Final = 100
MOST_TRENDING: Final = 200
STEADY: Final = 1e-4
"""Share of the interactions that an item needs about, before a rise is more than chance."""


def popularity(active: EncodedLog, as_of: int, half_life: int = HALF_LIFE) -> Float32:
    """float32[items]: each item's share of the interactions before ``as_of``, an old one counting less."""
    weights = popularity_weights(active, as_of, half_life)
    share = np.bincount(active.item, weights, minlength=len(active.item_ids))
    return (share / max(share.sum(), 1e-12)).astype(np.float32)


def popularity_weights(active: EncodedLog, as_of: int, half_life: int = HALF_LIFE) -> Float64:
    """float64[interactions]: how much each counts at ``as_of``."""
    return np.exp2((active.time - as_of) / half_life)


def most_popular(share: Float32) -> tuple[Int32, Float32]:
    """All items and their shares, the most popular first."""
    order = np.lexsort((np.arange(share.size), -share)).astype(np.int32)
    return order, share[order]


def most_trending(active: EncodedLog, as_of: int) -> tuple[Int32, Float32]:
    """The MOST_TRENDING items that are met more than they used to be, and how many times more, most first."""
    recent, usual = popularity(active, as_of, TREND_HALF_LIFE), popularity(active, as_of)
    rise = (recent + STEADY) / (usual + STEADY)
    order = np.lexsort((np.arange(rise.size), -rise))[:MOST_TRENDING]
    order = order[rise[order] > 1]
    return order.astype(np.int32), rise[order].astype(np.float32)


def most_popular_by_group(items: Int64, groups: Int64, weights: Float64, count: int) -> GroupedLists:
    """The PER_GROUP items of the highest weight in each of ``count`` groups, and their shares of its weight.

    items, groups int64[n] and weights float64[n]: what each item weighs in a group.
    """
    order = np.lexsort((items, -weights, groups))
    items, groups, weights = items[order], groups[order], weights[order]
    place = np.arange(order.size) - np.searchsorted(groups, groups)
    totals = np.bincount(groups, weights, minlength=count)
    keep = (place < PER_GROUP) & (weights > 0)
    return GroupedLists(
        items=items[keep].astype(np.int32),
        scores=(weights[keep] / totals[groups[keep]]).astype(np.float32),
        offsets=np.searchsorted(groups[keep], np.arange(count + 1)).astype(np.int32),
    )


def category_popularity(share: Float32, category: Int32, categories: int) -> GroupedLists:
    """The most popular items of each category that anyone met, from shares float32[items] of all."""
    items = np.flatnonzero((category >= 0) & (share > 0))
    return most_popular_by_group(
        items, category[items].astype(np.int64), share[items].astype(float), categories
    )
