"""The largest scores of each row of a sparse matrix, as the table that a source reads."""

from itertools import pairwise

import numpy as np
import scipy.sparse

from serving.indexes import Neighbours


def best_per_row(scores: scipy.sparse.sparray | scipy.sparse.spmatrix, size: int) -> Neighbours:
    """The ``size`` columns of the highest scores above zero of each row; equal scores in order of their column."""
    by_row = scipy.sparse.csr_array(scores)
    by_row.sum_duplicates()  # sorts each row by column
    neighbours = np.full((scores.shape[0], size), -1, dtype=np.int32)
    values = np.zeros((scores.shape[0], size), dtype=np.float32)
    for row, (start, stop) in enumerate(
        pairwise(by_row.indptr)
    ):  # many short sorts take less than a long one
        found = by_row.data[start:stop]
        best = np.argsort(-found, kind="stable")[:size]
        best = best[found[best] > 0]
        neighbours[row, : best.size] = by_row.indices[start:stop][best]
        values[row, : best.size] = found[best]
    return Neighbours(neighbours, values)
