"""What all sources are: functions from a shopper to items and scores, the best first, within a reach."""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from feature_repo.arrays import Bool, Float32, Float64, Int32
from feature_repo.ranking_features import Interest, ShopperState
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
        if items.size > self.quota:
            worst = np.partition(scores, -self.quota)[-self.quota]
            keep = scores >= worst  # with all that tie for the last place
            items, scores = items[keep], scores[keep]
        order = np.lexsort((items, -scores))[: self.quota]
        return Retrieved(items[order], scores[order])

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


def around(neighbours: Neighbours, items: Int32, weights: Float32) -> tuple[Int32, Float32]:
    """The distinct neighbours of items, and the sum of each one's scores, each weighing what its item does."""
    found = neighbours.items[items].ravel()
    scores = (neighbours.scores[items] * weights[:, None]).ravel()
    known = found >= 0
    return summed(found[known], scores[known])


def summed(items: Int32, weights: Float32 | Float64) -> tuple[Int32, Float32]:
    """The distinct items in order of their index, and the sum of each one's weights."""
    found, slot = np.unique(items, return_inverse=True)
    return found.astype(np.int32), np.bincount(slot, weights, minlength=found.size).astype(np.float32)
