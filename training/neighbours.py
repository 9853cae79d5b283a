"""The largest scores of each row of a sparse matrix, as the table that a source reads."""

from itertools import pairwise

import numpy as np
import scipy.sparse

from serving.indexes import Neighbours


def best_per_row(scores: scipy.sparse.csr_array, size: int) -> Neighbours:
    """The ``size`` columns of the highest scores above zero of each row; equal scores in order of their column."""
    by_column = scores.sorted_indices()
    neighbours = np.full((scores.shape[0], size), -1, dtype=np.int32)
    values = np.zeros((scores.shape[0], size), dtype=np.float32)
    # Many short sorts take less time than a long one.
    for row, (start, stop) in enumerate(pairwise(by_column.indptr)):
        found = by_column.data[start:stop]
        best = np.argsort(-found, kind="stable")[:size]
        best = best[found[best] > 0]
        neighbours[row, : best.size] = by_column.indices[start:stop][best]
        values[row, : best.size] = found[best]
    return Neighbours(neighbours, values)
