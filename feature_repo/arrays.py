"""Short names for the array types that pass between the rooms, and how spans of them are gathered."""

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]
Strings = npt.NDArray[np.object_]


def rows_of_spans(start: Int64, lengths: Int64) -> Int64:
    """int64: the rows of several spans, one span after the other; start, lengths int64[spans]."""
    return np.repeat(start - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
