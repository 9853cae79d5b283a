"""What is bought with what: complements, not substitutes."""

from typing import Final

import numpy as np
import scipy.sparse

from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import EventType
from feature_repo.session_features import UNKNOWN_ITEM
from serving.indexes import Neighbours
from training.neighbours import best_per_row

NEIGHBOURS: Final = 100
SIZE_POWER: Final = 0.7
"""A pair of a basket of n items counts n ** -SIZE_POWER: what a wholesaler orders says little about any two of it."""
POPULARITY_POWER: Final = 0.2
"""A complement's score is divided by its popularity to this power; 1 would be the lift, which overrates the rare."""
LEAST_LIFT: Final = 1.0
"""Items bought together less than chance lets expect take each other's place."""
LEAST_BASKETS: Final = 2
"""One basket with both is chance."""


def bought_together(log: EncodedLog) -> Neighbours:
    """The NEIGHBOURS items that are bought most with each item, in one visit; best first.

    The score of j for i is P(j | i) / P(j) ** POPULARITY_POWER, which has a direction: a case goes with the phone more
    than the phone with the case. Lift is P(j | i) / P(j) (Brin et al., SIGMOD 1997).
    """
    bought = log.select((log.type == EventType.PURCHASE.code) & (log.item != UNKNOWN_ITEM))
    baskets = _baskets(bought)
    size = np.asarray(baskets.sum(axis=1)).ravel()
    several = baskets[size > 1]
    weight = scipy.sparse.diags_array(size[size > 1] ** -SIZE_POWER)
    together = (several.T @ (weight @ several)).tocoo()
    number = (several.T @ several).tocoo()  # of the same places in the same order
    item, other = together.coords
    total = np.bincount(item, together.data, minlength=baskets.shape[1])
    share = np.asarray(several.sum(axis=0)).ravel() / max(several.shape[0], 1)
    given = together.data / np.maximum(total[item], 1e-12)
    kept = (item != other) & (number.data >= LEAST_BASKETS)
    raise NotImplementedError(share, given, kept)
