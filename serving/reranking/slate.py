"""What may be shown, the best of it, and what lengthens a slate that is too short."""

import numpy as np

from feature_repo.arrays import Bool, Float32, Int32
from feature_repo.compiled import INT32S, compiled
from serving.best_first import best_first


def best(items: Int32, scores: Float32, k: int) -> tuple[Int32, Float32]:
    """The ``k`` items of the highest scores, best first; equal scores in order of the item's index."""
    rows = best_first(items, scores, k)
    return items[rows], scores[rows]


def fill(items: Int32, scores: Float32, fallback: Int32, k: int) -> tuple[Int32, Float32]:
    """Lengthen a slate to ``k`` with ``fallback`` items it lacks, in their order, scored below all before them."""
    missing = k - items.size
    if missing <= 0:
        return items, scores
    extra = fallback[~_is_in(fallback, items)][:missing]
    floor = scores.min() if scores.size else np.float32(0)
    extra_scores = floor - np.arange(1, extra.size + 1, dtype=np.float32)
    return np.concatenate([items, extra]), np.concatenate([scores, extra_scores])


def may_show(items: Int32, excluded: Int32, available: Bool, allowed: Bool | None) -> Bool:
    """bool[n]: True for items that are available, not excluded and pass the request's filters."""
    keep = available[items] & ~_is_in(items, excluded)
    return keep if allowed is None else keep & allowed[items]


@compiled(INT32S, INT32S)
def _is_in(items: Int32, among: Int32) -> Bool:
    """bool[n]: which of the items are ``among`` others."""
    ordered = np.sort(among)
    found = np.zeros(items.size, np.bool_)
    for row in range(items.size):
        place = np.searchsorted(ordered, items[row])
        found[row] = place < ordered.size and ordered[place] == items[row]
    return found
