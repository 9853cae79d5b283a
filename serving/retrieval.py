"""Candidate generation: several sources look for items, and their findings are fused into one list.

A source is a function of (bundle, shopper, the shopper's interactions, reach) that returns items and scores, best
first, as many and such as its reach allows.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np

from feature_repo.arrays import Bool, Float32, Int32
from feature_repo.ranking_features import SOURCES, Candidates, ShopperState
from feature_repo.session_features import Window
from serving.bundle import Bundle

RECENT_ITEMS: Final = 10
"""Newest distinct items of the window that sources start from."""
RECENCY_DECAY: Final = 0.8
"""Weight of each step back in the window, against the step after it."""
FUSION_CONSTANT: Final = 60.0
"""k of reciprocal rank fusion: score = sum over sources of 1 / (k + rank) (Cormack et al., SIGIR 2009)."""
QUOTAS: Final[Mapping[str, int]] = {
    "revisits": 50,
    "covisitation": 150,
    "last_item_covisitation": 50,
    "session_embedding": 150,
    "user_embedding": 50,
    "category_popular": 50,
    "popular": 50,
}


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
        if self.allowed is not None:
            keep = self.allowed[items]
            items, scores = items[keep], scores[keep]
        return Retrieved(items[: self.quota], scores[: self.quota])


Source = Callable[[Bundle, ShopperState, Window, Reach], Retrieved]


def retrieve(bundle: Bundle, shopper: ShopperState, size: int, allowed: Bool | None = None) -> Candidates:
    """The ``size`` best candidates of all sources by reciprocal rank fusion, none that is not ``allowed``."""
    active = shopper.window.interactions()
    retrieved = [
        source(bundle, shopper, active, Reach(QUOTAS[name], allowed)) for name, source in RETRIEVERS.items()
    ]
    return fuse(retrieved, size)


def fuse(retrieved: list[Retrieved], size: int) -> Candidates:
    """Union of the sources' findings (in the order of SOURCES), cut to the ``size`` best by fused rank."""
    items, slot = np.unique(np.concatenate([found.items for found in retrieved]), return_inverse=True)
    lengths = [found.items.size for found in retrieved]
    column = np.repeat(np.arange(len(retrieved)), lengths)
    rank = np.concatenate([np.arange(length) for length in lengths])
    table = np.full((3, items.size, len(retrieved)), np.nan, dtype=np.float32)
    table[0, slot, column] = np.concatenate([found.scores for found in retrieved])
    table[1, slot, column] = rank
    best = np.array([found.scores[0] if found.scores.size else np.nan for found in retrieved], np.float32)
    table[2] = table[0] / np.where(best > 0, best, np.nan)
    fused = np.bincount(slot, 1 / (FUSION_CONSTANT + rank), minlength=items.size).astype(np.float32)
    order = np.lexsort((items, -fused))[:size]
    return Candidates(items[order].astype(np.int32), fused[order], *table[:, order])


def revisits(bundle: Bundle, shopper: ShopperState, active: Window, reach: Reach) -> Retrieved:
    """The shopper's own items, the newest first."""
    items = recent_items(active, active.items.size)
    return reach.cut(items, _decay(items.size))


def covisitation(bundle: Bundle, shopper: ShopperState, active: Window, reach: Reach) -> Retrieved:
    """Neighbours of the newest items, each item's weight falling with its age in steps."""
    items = recent_items(active, RECENT_ITEMS)
    neighbours = bundle.retrieval.neighbours[items].ravel()
    scores = (bundle.retrieval.neighbour_scores[items] * _decay(items.size)[:, None]).ravel()
    known = neighbours >= 0
    found, slot = np.unique(neighbours[known], return_inverse=True)
    return _best(found, np.bincount(slot, scores[known], minlength=found.size).astype(np.float32), reach)


def last_item_covisitation(bundle: Bundle, shopper: ShopperState, active: Window, reach: Reach) -> Retrieved:
    """Neighbours of the newest item alone."""
    if not active.items.size:
        return NOTHING
    neighbours = bundle.retrieval.neighbours[active.items[-1]]
    known = neighbours >= 0
    return reach.cut(neighbours[known], bundle.retrieval.neighbour_scores[active.items[-1]][known])


def session_embedding(bundle: Bundle, shopper: ShopperState, active: Window, reach: Reach) -> Retrieved:
    """Items nearest to the vector of the window."""
    return _nearest(bundle, bundle.tower.session_vector(active), reach)


def user_embedding(bundle: Bundle, shopper: ShopperState, active: Window, reach: Reach) -> Retrieved:
    """Items nearest to the shopper's long-term vector."""
    return _nearest(bundle, shopper.user.embedding, reach)


def category_popular(bundle: Bundle, shopper: ShopperState, active: Window, reach: Reach) -> Retrieved:
    """Popular items of the categories of the window, each category by its weight in the window."""
    items = recent_items(active, RECENT_ITEMS)
    categories = bundle.items.category[items]
    weights = np.bincount(categories[categories >= 0], _decay(items.size)[categories >= 0])
    arrays = bundle.retrieval
    spans = [
        (slice(arrays.category_offsets[c], arrays.category_offsets[c + 1]), weights[c])
        for c in np.flatnonzero(weights)
    ]
    if not spans:
        return NOTHING
    found = np.concatenate([arrays.category_popular[span] for span, _ in spans])
    scores = np.concatenate([arrays.category_popular_scores[span] * weight for span, weight in spans])
    return _best(found, scores.astype(np.float32), reach)


def popular(bundle: Bundle, shopper: ShopperState, active: Window, reach: Reach) -> Retrieved:
    """The shop's most popular items."""
    return reach.cut(bundle.retrieval.popular, bundle.retrieval.popular_scores)


RETRIEVERS: Final[Mapping[str, Source]] = {
    source.__name__: source
    for source in (
        revisits,
        covisitation,
        last_item_covisitation,
        session_embedding,
        user_embedding,
        category_popular,
        popular,
    )
}
if tuple(RETRIEVERS) != SOURCES:
    raise AssertionError(
        "retrieval must offer exactly the sources that the ranking schema names, in its order"
    )


def recent_items(active: Window, size: int) -> Int32:
    """int32: the newest distinct items of the window, the newest first."""
    newest_first = active.items[::-1]
    _, first = np.unique(newest_first, return_index=True)
    return newest_first[np.sort(first)[:size]]


def _decay(size: int) -> Float32:
    return (RECENCY_DECAY ** np.arange(size)).astype(np.float32)


def _nearest(bundle: Bundle, vector: Float32, reach: Reach) -> Retrieved:
    if not vector.any():
        return NOTHING
    scores = bundle.tower.embeddings @ vector
    if reach.allowed is not None:
        scores = np.where(reach.allowed, scores, np.float32(-np.inf))
    quota = min(reach.quota, scores.size)
    worst = np.partition(scores, -quota)[-quota]
    near = np.flatnonzero(scores >= worst).astype(np.int32)  # with all that tie for the last place
    return _best(near, scores[near], reach)


def _best(items: Int32, scores: Float32, reach: Reach) -> Retrieved:
    order = np.lexsort((items, -scores))
    return reach.cut(items[order], scores[order])
