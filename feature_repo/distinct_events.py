"""Which of several rows with one event_id stays: the same one, however they arrived."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.schema import DAY, EVENT_SCHEMA, Event

KEYS: Final = (Event.ID, Event.ARRIVAL, Event.TIMESTAMP)
_PRECEDENCE: Final = (*KEYS, *(name for name in EVENT_SCHEMA.names if name not in KEYS))
"""Of rows with one event_id the smallest in these columns stays. Rows of two dates differ in KEYS already."""


def distinct(events: pa.Table) -> pa.Table:
    """One row per event_id of a table of EVENT_SCHEMA, in no order: the first by precedence."""
    contested = _repeated(_codes(events[Event.ID]))
    if not contested.any():
        return events
    ranked = events.filter(contested).sort_by([(name, "ascending") for name in _PRECEDENCE])
    return pa.concat_tables([events.filter(~contested), ranked.filter(_starts(_codes(ranked[Event.ID])))])


def dates_with_repeats(keys: pa.Table) -> set[str]:
    """Dates in which one event_id stands more than once; ``keys`` has the columns KEYS."""
    codes = _codes(keys[Event.ID])
    repeated = _repeated(codes)
    pairs = np.stack([days_of(keys)[repeated], codes[repeated]], axis=1)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    return {name_of_day(day) for day in np.unique(found[counts > 1, 0])}


def rows_lost_to_another_date(keys: pa.Table) -> dict[str, pa.Array]:
    """Date -> event_ids that stand there too, but come first by precedence on another date."""
    contested = keys.filter(_repeated(_codes(keys[Event.ID])))
    ranked = contested.sort_by([(name, "ascending") for name in KEYS])
    days, starts = days_of(ranked), _starts(_codes(ranked[Event.ID]))
    lost = days != days[starts][np.cumsum(starts) - 1]
    ids, days = ranked[Event.ID].filter(lost), days[lost]
    return {name_of_day(day): ids.filter(days == day).combine_chunks() for day in np.unique(days)}


def days_of(events: pa.Table) -> npt.NDArray[np.int64]:
    """Event date (UTC) of each row, in days since 1970."""
    days: npt.NDArray[np.int64] = events[Event.TIMESTAMP].cast(pa.int64()).to_numpy() // DAY
    return days


def name_of_day(day: int) -> str:
    """YYYY-MM-DD of a number of days since 1970."""
    return str(np.datetime64(int(day), "D"))


def _codes(ids: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    """A number for each id, equal where the ids are."""
    codes: npt.NDArray[np.int32] = ids.combine_chunks().dictionary_encode().indices.to_numpy()
    return codes


def _repeated(codes: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.bincount(codes)[codes] > 1


def _starts(codes: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Mask of the rows whose code differs from the one before."""
    return np.diff(codes, prepend=-1) != 0
