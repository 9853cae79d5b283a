"""What all sources are: functions from a shopper to items and scores, the best first, within a reach."""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from feature_repo.arrays import Bool, Float32, Float64, Int32
from feature_repo.compiled import FLOAT32_ROWS, FLOAT32S, INT, INT32_ROWS, INT32S, compiled
from feature_repo.distinct_values import distinct
from feature_repo.ranking_features import Interest, ShopperState
from serving.best_first import best_first
from serving.bundle import Bundle
from serving.indexes import Neighbours
from serving.vector_index import VectorIndex

RECENT_ITEMS: Final = 10
"""Newest distinct items of the window that sources start from."""


class Retrieved(NamedTuple):
    """items int32[n] and scores float32[n], best first."""

    items: Int32
    scores: Float32


NOTHING: Final = Retrieved(np.zeros(0, np.int32), np.zeros(0, np.float32))


class Reach(NamedTuple):
    """How many items a source may bring, and which: ``allowed`` bool[items], None for all."""

    quota: int
    allowed: Bool | None = None

    def cut(self, items: Int32, scores: Float32) -> Retrieved:
        """The first of the items, which come best first, within this reach."""
        items, scores = self._allowed(items, scores)
        return Retrieved(items[: self.quota], scores[: self.quota])

    def best(self, items: Int32, scores: Float32) -> Retrieved:
        """The items of the highest scores within this reach; equal scores in order of the item's index."""
        items, scores = self._allowed(items, scores)
        rows = best_first(items, scores, self.quota)
        return Retrieved(items[rows], scores[rows])

    def nearest(self, index: VectorIndex, query: Float32) -> Retrieved:
        """The nearest items to a query within this reach."""
        near = index.search(query, self.quota, self.allowed)
        return self.best(near.items, near.cosines)

    def _allowed(self, items: Int32, scores: Float32) -> Retrieved:
        if self.allowed is None:
            return Retrieved(items, scores)
        keep = self.allowed[items]
        return Retrieved(items[keep], scores[keep])


Source = Callable[[Bundle, ShopperState, Interest, Reach], Retrieved]


def around(
    neighbours: Neighbours, items: Int32, weights: Float32, of_each: int | None = None
) -> tuple[Int32, Float32]:
    """The distinct neighbours of items, and the sum of each one's scores, each weighing what its item does.

    of_each: how many neighbours of an item are looked at, None for all.
    """
    width = neighbours.items.shape[1]
    listed = width if of_each is None else min(of_each, width)
    return summed(*_listed(neighbours.items, neighbours.scores, listed, items, weights))


def summed(items: Int32, weights: Float32 | Float64) -> tuple[Int32, Float32]:
    """The distinct items in the order in which they come, and the sum of each one's weights."""
    found, totals = totalled(items, weights)
    return found, totals.astype(np.float32)


def totalled(items: Int32, weights: Float32 | Float64) -> tuple[Int32, Float64]:
    """The same, in the precision in which they are added."""
    first, number = distinct(items)
    totals = np.bincount(number, weights, minlength=first.size)
    return items[first], totals.astype(np.float64, copy=False)  # integers where there is nothing to add


@compiled(INT32_ROWS, FLOAT32_ROWS, INT, INT32S, FLOAT32S)
def _listed(
    neighbours: Int32, scores: Float32, listed: int, items: Int32, weights: Float32
) -> tuple[Int32, Float32]:
    """The first ``listed`` neighbours of each item, one list after the other, with their weighted scores."""
    found = np.empty(items.size * listed, np.int32)
    weighted = np.empty(items.size * listed, np.float32)
    n = 0
    for row in range(items.size):
        item = items[row]
        for place in range(listed):
            found[n] = neighbours[item, place]
            weighted[n] = scores[item, place] * weights[row]
            n += found[n] >= 0
    return found[:n], weighted[:n]
