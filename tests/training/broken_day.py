"""A day of a log that is broken on purpose."""

import time

import pandas as pd
import pyarrow as pa

from feature_repo.archive import Archive
from feature_repo.schema import DAY, EVENT_SCHEMA, Event


def append_swapped_day(archive: Archive) -> None:
    """Add the newest day again with item and shopper exchanged, three times: these outnumber the sound events."""
    now = time.time_ns() // 1000
    yesterday = archive.read(now - DAY, now).to_pandas()
    for copy in ("a", "b", "c"):
        swapped = yesterday.assign(
            event_id=copy + yesterday[Event.ID],
            timestamp=yesterday[Event.TIMESTAMP] - pd.Timedelta(seconds=ord(copy)),
            user_id=yesterday[Event.ITEM],
            visitor_id=None,
            item_id=yesterday[Event.USER].fillna(yesterday[Event.VISITOR]),
        )
        archive.append(pa.Table.from_pandas(swapped, EVENT_SCHEMA, preserve_index=False))
