"""Item-to-item co-visitation: which items shoppers meet soon after one another."""

from typing import Final

import numpy as np
import scipy.sparse

from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import DAY, EventType
from serving.indexes import Neighbours
from training.neighbours import best_per_row

NEIGHBOURS: Final = 100
MAX_STEPS: Final = 8
"""Pairs further apart in the shopper's sequence are not counted."""
MAX_GAP: Final = DAY
BACKWARD_WEIGHT: Final = 0.5
"""Weight of a pair against the direction of time."""
EVENT_WEIGHTS: Final = {EventType.ADD_TO_CART: 2.0, EventType.FAVORITE: 2.0, EventType.PURCHASE: 3.0}
"""What the later event of a pair counts, where it is more than a look."""


def covisitation(log: EncodedLog) -> Neighbours:
    """The NEIGHBOURS best neighbours of every item.

    A pair counts 1 / steps forward and half as much backward, times the weight of its later event; its score is
    the sum over sqrt(n_i n_j), the cosine of Linden et al. (IEEE Internet Computing, 2003), so it does not grow
    with the log.
    """
    active = log.interactions()
    items = len(active.item_ids)
    counts = np.bincount(active.item, minlength=items)
    event_weight = np.ones(len(EventType), np.float32)
    for event_type, weight in EVENT_WEIGHTS.items():
        event_weight[event_type.code] = weight
    total = scipy.sparse.csr_array((items, items), dtype=np.float32)
    for steps in range(1, MAX_STEPS + 1):
        near = (active.shopper[steps:] == active.shopper[:-steps]) & (
            active.time[steps:] - active.time[:-steps] <= MAX_GAP
        )
        earlier, later = active.item[:-steps][near], active.item[steps:][near]
        weights = event_weight[active.type[steps:][near]] / np.float32(steps)
        other = earlier != later
        pairs = scipy.sparse.coo_array((weights[other], (earlier[other], later[other])), shape=(items, items))
        total = total + pairs.tocsr()
    scores = (total + BACKWARD_WEIGHT * total.T).tocoo()
    row, column = scores.coords
    cosines = scores.data / np.sqrt(counts[row] * counts[column]).astype(np.float32)
    return best_per_row(scipy.sparse.csr_array((cosines, (row, column)), shape=(items, items)), NEIGHBOURS)
