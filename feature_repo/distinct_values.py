"""Distinct values in the order in which they come, found in one pass and without sorting."""

from typing import Final

import numpy as np

from feature_repo.arrays import Int32, Int64
from feature_repo.compiled import INT32S, compiled

ROOM: Final = 8
"""Slots of the hash table for each value: in one that is nearly empty hardly two values meet."""
SPREAD: Final = 0x9E3779B1
"""2^32 by the golden ratio: multiplied by it, neighbours lie far apart (Knuth, TAOCP volume 3, 6.4)."""


@compiled(INT32S)
def distinct(values: Int32) -> tuple[Int64, Int64]:
    """Rows int64[m] where each of the distinct values comes first, and int64[n]: which of these each value is."""
    bits = 1
    while 1 << bits < ROOM * values.size:
        bits += 1
    row_in = np.full(1 << bits, -1, np.int32)
    first = np.empty(values.size, np.int64)
    number = np.empty(values.size, np.int64)
    found = 0
    for row in range(values.size):
        slot = (values[row] * SPREAD & 0xFFFFFFFF) >> (32 - bits)
        while row_in[slot] >= 0 and values[row_in[slot]] != values[row]:
            slot = (slot + 1) & ((1 << bits) - 1)
        if row_in[slot] < 0:
            row_in[slot] = row
            first[found] = row
            number[row] = found
            found += 1
        else:
            number[row] = number[row_in[slot]]
    return first[:found], number
