"""The order of all lists of scored items: the best first, and equals in order of the item's index."""

import numpy as np

from feature_repo.arrays import Float32, Int32, Int64
from feature_repo.compiled import FLOAT32S, INT, INT32S, compiled


def best_first(items: Int32, scores: Float32, size: int) -> Int64:
    """int64[min(n, size)]: rows of the best of items int32[n] by scores float32[n], none of which is NaN."""
    rows, places = _best(items, scores, size)
    return rows[places.argsort()[:size]]


@compiled(INT32S, INT)
def _last(places: Int32, size: int) -> int:
    """The ``size``-th smallest: by halving, which costs 32 passes, but none that has to guess a branch."""
    low, high = np.int64(places.min()), np.int64(places.max())
    while low < high:
        middle = np.int32((low + high) >> 1)
        until = np.int32(0)
        for row in range(places.size):
            until = np.int32(until + np.int32(places[row] <= middle))
        if until >= size:
            high = np.int64(middle)
        else:
            low = np.int64(middle) + 1
    return int(low)


@compiled(INT32S, FLOAT32S, INT)
def _best(items: Int32, scores: Float32, size: int) -> tuple[Int64, Int64]:
    """Rows of the best and of all that tie with the last of them; numbers that rise in the order of best_first."""
    # Read as an integer, a float rises with it from 0 up and falls with it below.
    bits = (-scores).view(np.int32)
    falling = np.empty(items.size, np.int32)
    for row in range(items.size):
        falling[row] = bits[row] if bits[row] >= 0 else -(bits[row] & 0x7FFFFFFF)
    last = _last(falling, size) if 0 < size < items.size else 0x7FFFFFFF
    rows = np.empty(items.size, np.int64)
    places = np.empty(items.size, np.int64)
    found = 0
    for row in range(items.size):
        rows[found] = row
        places[found] = (np.int64(falling[row]) << 32) + items[row]
        found += falling[row] <= last
    return rows[:found], places[:found]
