"""Ids for events that came without one: a row has the same id in whatever file and order it comes."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pandas.util import hash_array

from feature_repo.schema import Event

_HASH_KEYS: Final = ("freshet.id.high.", "freshet.id.low..")
"""Two keys (16 bytes each) of a 64-bit SipHash make 128 bits."""
_ID_BYTES: Final = 32
_IDENTITY: Final = (Event.TYPE, Event.USER, Event.VISITOR, Event.ITEM, Event.TIMESTAMP, Event.QUERY)
"""Who did what when. What else a row tells, such as a price, may be mapped better later: it is still that event."""


def row_ids(events: pa.Table) -> pa.Array:
    """One id per row, 32 hexadecimal digits: a hash of who did what when and of how many such rows came before it.

    ``events`` has columns of EVENT_SCHEMA. So importing a file again gives the ids that it had, also with
    further columns mapped, and a shopper who did the same thing twice keeps both events. A missing column
    does not count.
    """
    content = [_hash_rows(events, key) for key in _HASH_KEYS]
    occurrence = pd.DataFrame({"high": content[0], "low": content[1]}).groupby(["high", "low"]).cumcount()
    repeats = np.asarray(occurrence, str).astype(object)
    halves = [
        hash_ + np.where(occurrence == 0, np.uint64(0), hash_array(repeats, hash_key=key))
        for hash_, key in zip(content, _HASH_KEYS, strict=True)
    ]
    digits = np.stack(halves, axis=1).astype(">u8").tobytes().hex().encode()
    offsets = np.arange(0, len(digits) + 1, _ID_BYTES, dtype=np.int32)
    return pa.StringArray.from_buffers(events.num_rows, pa.py_buffer(offsets), pa.py_buffer(digits))


def _hash_rows(events: pa.Table, key: str) -> npt.NDArray[np.uint64]:
    """Hash of the sum of the hashes of each row's identifying cells, each hashed with its column's name."""
    total = np.zeros(events.num_rows, np.uint64)
    for name in _IDENTITY:
        if name not in events.column_names or events[name].null_count == events.num_rows:
            continue
        kind = events[name].type
        cells = events[name].cast(pa.int64()) if pa.types.is_timestamp(kind) else events[name]
        encoded = cells.cast(pa.string()).combine_chunks().dictionary_encode()
        texts: npt.NDArray[Any] = np.array(
            [f"{name}={cell}" for cell in encoded.dictionary.to_pylist()], object
        )
        hashes = np.append(hash_array(texts, hash_key=key, categorize=False), np.uint64(0))
        total += hashes[encoded.indices.fill_null(len(texts)).to_numpy()]
    # Events of one moment stand in the order of their ids. A mere sum would put the items of every basket in the
    # same order, and a model would learn that order.
    return hash_array(total)
