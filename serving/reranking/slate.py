"""What may be shown, the best of it, and what lengthens a slate that is too short."""

import numpy as np

from feature_repo.arrays import Bool, Float32, Int32, Int64


def best(items: Int32, scores: Float32, k: int) -> tuple[Int32, Float32]:
    """The ``k`` items of the highest scores, best first; equal scores in order of the item's index."""
    rows = ranked(items, scores)[:k]
    return items[rows], scores[rows]


def ranked(items: Int32, scores: Float32) -> Int64:
    """int64[n]: the rows of candidates, best first; equal scores in order of the item's index."""
    return np.lexsort((items, -scores))


def fill(items: Int32, scores: Float32, fallback: Int32, k: int) -> tuple[Int32, Float32]:
    """Lengthen a slate to ``k`` with ``fallback`` items it lacks, in their order, scored below all before them."""
    missing = k - items.size
    if missing <= 0:
        return items, scores
    extra = fallback[~np.isin(fallback, items)][:missing]
    floor = scores.min() if scores.size else np.float32(0)
    extra_scores = floor - np.arange(1, extra.size + 1, dtype=np.float32)
    return np.concatenate([items, extra]), np.concatenate([scores, extra_scores])


def may_show(items: Int32, excluded: Int32, available: Bool, allowed: Bool | None) -> Bool:
    """bool[n]: True for items that are available, not excluded and pass the request's filters."""
    keep = available[items] & ~np.isin(items, excluded)
    return keep if allowed is None else keep & allowed[items]
