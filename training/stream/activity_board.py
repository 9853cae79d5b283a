"""The item counts of all partitions, summed up and published for every server to read."""

from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.activity_message import ITEM, MESSAGE_SCHEMA, MOST_ITEMS, PublishedActivity
from feature_repo.event_log import EventLog
from feature_repo.item_activity import ACTIVITY_COUNTS, ACTIVITY_WINDOWS

NEWEST: Final = 2
"""Buckets of a window in which counts still rise: the one that is under way, and the one before."""
_TYPE: Final = "type"
_NUMBER: Final = "number"
_BUCKET_SCHEMA: Final = pa.schema({_TYPE: pa.string(), ITEM: pa.string(), _NUMBER: pa.int64()})

Bucket = tuple[str, int]
"""Name of a window, and where the bucket begins."""


class ActivityBoard:
    """Every bucket as it was when it was last looked at.

    Each look reads the newest buckets of each window, and in turn one of the older ones, to which late events come.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._buckets: dict[Bucket, pa.Table] = {}
        self._in_turn: list[Bucket] = []

    async def look(self, now: int) -> None:
        """Read what may have changed by ``now`` (microseconds). Raises LogUnavailableError."""
        newest: list[Bucket] = []
        older: list[Bucket] = []
        for window in ACTIVITY_WINDOWS:
            buckets = [(window.name, start) for start in window.starts(now)]
            older += buckets[:-NEWEST]
            newest += buckets[-NEWEST:]
        if not self._in_turn:
            self._in_turn = list(older)
        never_read = {bucket for bucket in older if bucket not in self._buckets}
        wanted = {*newest, *never_read, self._in_turn.pop()} & {*newest, *older}
        kept = {bucket: self._buckets[bucket] for bucket in older if bucket not in wanted}
        self._buckets = kept | await self._read(sorted(wanted))

    def activity(self, now: int) -> PublishedActivity:
        """The counts as of ``now``: those of the MOST_ITEMS that were met most."""
        columns = []
        for count in ACTIVITY_COUNTS:
            buckets = [(count.window.name, start) for start in count.window.starts(now)]
            known = [self._buckets[bucket] for bucket in buckets if bucket in self._buckets]
            rows = pa.concat_tables([_BUCKET_SCHEMA.empty_table(), *known])
            counted = rows.filter(pc.is_in(rows[_TYPE], value_set=pa.array(count.types, pa.string())))
            summed = counted.group_by(ITEM).aggregate([(_NUMBER, "sum")]).to_pandas().set_index(ITEM)
            columns.append(summed[f"{_NUMBER}_sum"].rename(count.name))
        table = pd.concat(columns, axis=1).fillna(0).astype("int32")
        most = table.sort_values([count.name for count in ACTIVITY_COUNTS], ascending=False).head(MOST_ITEMS)
        return PublishedActivity(now, pa.Table.from_pandas(most.reset_index(names=ITEM), MESSAGE_SCHEMA))

    async def _read(self, buckets: list[Bucket]) -> dict[Bucket, pa.Table]:
        """Each bucket's counts of all partitions, one after the other."""
        of_partitions = [
            await self._log.item_counts(partition, buckets) for partition in range(self._log.partitions)
        ]
        return {
            bucket: pa.concat_tables([_table(counts) for counts in parts])
            for bucket, parts in zip(buckets, zip(*of_partitions, strict=True), strict=True)
        }


def _table(counts: dict[str, int]) -> pa.Table:
    types, _, items = (
        zip(*(field.partition(":") for field in counts), strict=True) if counts else ((), (), ())
    )
    return pa.table([types, items, list(counts.values())], schema=_BUCKET_SCHEMA)
