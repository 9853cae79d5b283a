"""What is known of the items' activity at a moment, as rows of a state journal."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from feature_repo.arrays import Int64
from feature_repo.item_activity import ACTIVITY_COUNTS, Activity, ActivityTable

_INDEX: Final = "index"
_ALL_ITEMS: Final = -1
"""Index of the row of the totals."""
_NAMES: Final = [count.name for count in ACTIVITY_COUNTS]


@dataclass(frozen=True)
class WrittenActivity(ActivityTable):
    """Counts that are written down as this state."""

    state: str | None


def state_of(activity: Activity) -> str | None:
    """The state as which an activity is written down; None for what is not."""
    return activity.state if isinstance(activity, WrittenActivity) else None


def all_rows(table: ActivityTable) -> pa.Table:
    """Rows of the totals and of the items that were met."""
    return _rows(table, np.flatnonzero(table.counts.any(axis=1)))


def changed_rows(before: ActivityTable, table: ActivityTable) -> pa.Table:
    """Rows of what differs between two tables of the same items; none where nothing does."""
    index = np.flatnonzero((before.counts != table.counts).any(axis=1))
    rows = _rows(table, index)
    return rows.slice(0, 0) if not index.size and np.array_equal(before.totals, table.totals) else rows


def table_of_rows(rows: pa.Table, items: int) -> ActivityTable:
    """The counts of so many items, of each the last row."""
    index = rows[_INDEX].to_numpy()
    values = np.column_stack([rows[name].to_numpy() for name in _NAMES])
    counts = np.zeros((items, len(_NAMES)), np.int32)
    counts[index[index != _ALL_ITEMS]] = values[index != _ALL_ITEMS]  # what is assigned last stays
    return ActivityTable(counts, values[index == _ALL_ITEMS][-1])


def _rows(table: ActivityTable, index: Int64) -> pa.Table:
    values = np.concatenate([table.totals[None, :], table.counts[index]])
    columns = {name: values[:, column] for column, name in enumerate(_NAMES)}
    return pa.table({_INDEX: np.append(_ALL_ITEMS, index).astype(np.int32), **columns})
