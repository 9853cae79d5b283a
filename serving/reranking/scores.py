"""Scores: the ranker's, boosted, buried and tired of what was shown in vain.

A score is read as a log-odds utility: lambdarank learns pairs by the logistic loss, so e to the difference of two
scores is how much likelier the one is taken than the other (Burges, "From RankNet to LambdaRank to LambdaMART",
2010). Whoever makes an item f times as attractive therefore adds log(f), whatever the score, and factors multiply.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from feature_repo.arrays import Float32, Int32

LEAST_FACTOR: Final = 1e-6
"""By which an item is buried at most, so that it stands last instead of being lost."""


def boosted(scores: Float32, factors: Float32) -> Float32:
    """float32[n]: scores of candidates boosted by factors float32[n] above 1, buried by those below.

    A factor is at least LEAST_FACTOR. Raises ValueError for a factor that is negative or not finite.
    """
    if not (np.isfinite(factors).all() and (factors >= 0).all()):
        raise ValueError(
            "a boost is a finite factor of 0 or more: 2 doubles the odds of an item, 0.5 halves them"
        )
    return scores + np.log(np.maximum(factors, np.float32(LEAST_FACTOR)))


def fatigue(
    items: Int32, last_shown: Mapping[int, int], as_of: int, weight: float, half_life: int
) -> Float32:
    """float32[n]: factors that bury what was shown and not clicked: 1 - weight * 2^(-age / half_life).

    last_shown: when an item, by its index, was last shown; that, ``as_of`` and the ``half_life`` (above 0) are
    microseconds. weight 0..1: how much of an item is lost at the moment when it is shown. What was never shown
    has the factor 1.
    """
    if not last_shown:
        return np.ones(items.size, np.float32)
    shown = np.fromiter(last_shown.keys(), np.int64, len(last_shown))
    moment = np.fromiter(last_shown.values(), np.int64, len(last_shown))
    order = np.argsort(shown)
    place = order[np.minimum(np.searchsorted(shown, items, sorter=order), shown.size - 1)]
    age = np.maximum(as_of - moment[place], 0)  # a clock may be ahead
    lost = np.where(shown[place] == items, weight * np.exp2(-age / half_life), 0.0)
    return (1 - lost).astype(np.float32)
