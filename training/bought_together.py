"""What is bought with what: complements, not substitutes."""

from typing import Final

import numpy as np
import scipy.sparse

from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import EventType
from feature_repo.session_features import UNKNOWN_ITEM
from serving.indexes import Neighbours
from training.neighbours import best_per_row

NEIGHBOURS: Final = 200
LARGEST_BASKET: Final = 256
"""Items of a basket; of what a wholesaler orders no two belong together, and pairs grow with the square."""
SIZE_POWER: Final = 0.7
"""A basket of n items counts n ** -SIZE_POWER."""
POPULARITY_POWER: Final = 0.2
"""Power of a complement's own probability that its score is divided by: 0 is what everybody buys, 1 is the lift,
which overrates the rare."""
LEAST_LIFT: Final = 0.5
"""What is bought with an item half as often as by chance, or less, takes its place."""


def bought_together(log: EncodedLog) -> Neighbours:
    """The NEIGHBOURS best complements of every item.

    The score of j for i is P(j | i) / P(j) ** POPULARITY_POWER over the baskets, each weighed by its size. It has a
    direction: who buys the case may need the phone more than the other way round. Substitutes are left out by their
    lift, P(j | i) / P(j) (Brin et al., SIGMOD 1997).
    """
    visits = baskets(log)
    size = np.diff(visits.indptr)
    weight = size**-SIZE_POWER
    bought = weight @ visits
    together = (visits.T @ (scipy.sparse.diags_array(weight) @ visits)).tocoo()
    item, other = together.coords
    given = together.data / bought[item]
    share = bought[other] / weight.sum()
    complements = (item != other) & (given > LEAST_LIFT * share)
    scores = np.where(complements, given / share**POPULARITY_POWER, 0).astype(np.float32)
    return best_per_row(scipy.sparse.csr_array((scores, (item, other)), shape=together.shape), NEIGHBOURS)


def baskets(log: EncodedLog) -> scipy.sparse.csr_array:
    """[baskets, items]: 1 where a visit bought an item; of visits that bought several, but no more than fit."""
    session = log.session()
    bought = (log.type == EventType.PURCHASE.code) & (log.item != UNKNOWN_ITEM)
    pairs = np.unique(np.stack([session[bought], log.item[bought]]), axis=1)
    _, basket, size = np.unique(pairs[0], return_inverse=True, return_counts=True)
    fits = (size[basket] > 1) & (size[basket] <= LARGEST_BASKET)
    _, row = np.unique(basket[fits], return_inverse=True)
    shape = (int(row.max(initial=-1)) + 1, len(log.item_ids))
    return scipy.sparse.csr_array((np.ones(row.size), (row, pairs[1][fits])), shape=shape)
