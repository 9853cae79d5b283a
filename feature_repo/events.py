"""An event as it travels: from the request that brought it, through the log, into the archive."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

import orjson
import pyarrow as pa

from feature_repo.schema import EVENT_SCHEMA, shopper_key


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """One row of the event log; a field for each column of EVENT_SCHEMA, in its order.

    ``timestamp`` (event time) and ``arrival_time`` are microseconds since 1970, UTC; ``properties`` is the
    text of a JSON object.
    """

    event_id: str
    event_type: str
    user_id: str | None = None
    visitor_id: str | None = None
    item_id: str | None = None
    timestamp: int
    arrival_time: int
    session_id: str | None = None
    placement: str | None = None
    request_id: str | None = None
    position: int | None = None
    query: str | None = None
    quantity: float | None = None
    price: float | None = None
    value: float | None = None
    campaign_id: str | None = None
    properties: str | None = None

    @property
    def shopper(self) -> str:
        """Key of the window this event goes to."""
        return shopper_key(self.user_id, self.visitor_id)

    def to_json(self) -> bytes:
        """Compact JSON object without the columns that are absent."""
        return orjson.dumps(
            {name: value for name in FIELD_NAMES if (value := getattr(self, name)) is not None}
        )

    @classmethod
    def from_json(cls, text: bytes) -> "LoggedEvent":
        """Read what ``to_json`` wrote."""
        return cls(**orjson.loads(text))


FIELD_NAMES = tuple(field.name for field in fields(LoggedEvent))


def to_table(events: Iterable[LoggedEvent]) -> pa.Table:
    """Arrow table of EVENT_SCHEMA, one row per event, in the order given."""
    columns = list(zip(*map(astuple, events), strict=True)) or [()] * len(FIELD_NAMES)
    return pa.table(
        [pa.array(column, type=field.type) for column, field in zip(columns, EVENT_SCHEMA, strict=True)],
        schema=EVENT_SCHEMA,
    )
