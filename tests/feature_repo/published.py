"""Item activity as the stream publishes it."""

import pyarrow as pa

from feature_repo.activity_message import MESSAGE_SCHEMA, PublishedActivity
from feature_repo.item_activity import ACTIVITY_COUNTS


def published(as_of: int, **interactions: int) -> PublishedActivity:
    """Items met so often in every window and otherwise not at all, as of a moment (microseconds)."""
    columns = [
        [number if "interactions" in count.name else 0 for number in interactions.values()]
        for count in ACTIVITY_COUNTS
    ]
    return PublishedActivity(as_of, pa.table([list(interactions), *columns], schema=MESSAGE_SCHEMA))
