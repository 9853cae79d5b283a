"""Where random walks over the co-visitation graph end: items related through others, though nobody met both."""

import os
from typing import Final

import numpy as np
import scipy.sparse
from sparse_dot_topn import sp_matmul_topn

from serving.indexes import Neighbours
from training.neighbours import best_per_row

NEIGHBOURS: Final = 200
STEPS: Final = 5
CONTINUE: Final = 0.7
"""Chance that a walk takes another step."""


def random_walks(covisited: Neighbours) -> Neighbours:
    """The NEIGHBOURS items where walks from each item most often stand, at most STEPS away.

    Scores are the expected visits of a random walk with restart (Tong et al., ICDM 2006) that steps to a neighbour
    in proportion to its score. After every step each walk keeps its NEIGHBOURS likeliest places only.
    """
    step = CONTINUE * _shares(covisited)
    place = visits = step
    for _ in range(1, STEPS):
        place = sp_matmul_topn(place, step, top_n=NEIGHBOURS, n_threads=os.cpu_count())
        visits = visits + place
    visits.setdiag(0)
    return best_per_row(scipy.sparse.csr_array(visits), NEIGHBOURS)


def _shares(covisited: Neighbours) -> scipy.sparse.csr_matrix:
    """float32[items, items]: each neighbour's share of the scores of an item's neighbours."""
    known = covisited.items >= 0
    total = covisited.scores.sum(axis=1, keepdims=True)
    shares = covisited.scores / np.where(total > 0, total, np.float32(1))
    row, _ = np.nonzero(known)
    size = len(covisited.items)
    return scipy.sparse.csr_matrix((shares[known], (row, covisited.items[known])), shape=(size, size))
