"""The largest scores of each row of a sparse matrix, as the table that a source reads."""

import numpy as np
import scipy.sparse

from serving.indexes import Neighbours


def best_per_row(scores: scipy.sparse.coo_array, size: int) -> Neighbours:
    """The ``size`` columns of the highest scores above zero of each row; equal scores in order of their column."""
    row, column = scores.coords
    order = np.lexsort((column, -scores.data, row))
    order = order[scores.data[order] > 0]
    row = row[order]
    place = np.arange(row.size) - np.searchsorted(row, row)
    kept = order[place < size]
    row, place = row[place < size], place[place < size]
    neighbours = np.full((scores.shape[0], size), -1, dtype=np.int32)
    values = np.zeros((scores.shape[0], size), dtype=np.float32)
    neighbours[row, place] = column[kept]
    values[row, place] = scores.data[kept]
    return Neighbours(neighbours, values)
