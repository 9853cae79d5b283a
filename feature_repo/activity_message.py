"""Item activity as it is published: counts of the items that were met lately, as of a moment, in one message."""

from typing import Final, NamedTuple, Self

import pyarrow as pa

from feature_repo.item_activity import ACTIVITY_COUNTS
from feature_repo.schema import Item

ITEM: Final = Item.ID
MESSAGE_SCHEMA: Final = pa.schema(
    [pa.field(ITEM, pa.string()), *(pa.field(count.name, pa.int32()) for count in ACTIVITY_COUNTS)]
)
MOST_ITEMS: Final = 200_000
"""Items in a message, those that were met most: what a server has to read stays bounded, whatever ids come in."""
MESSAGE_SECONDS: Final = 60
"""How long a message holds. Where no newer one comes, nothing is known any more."""
_AS_OF: Final = b"as_of"


class PublishedActivity(NamedTuple):
    """as_of: microseconds since 1970, UTC; counts: a table of MESSAGE_SCHEMA, one row per item."""

    as_of: int
    counts: pa.Table

    def to_bytes(self) -> bytes:
        """The message: an Arrow stream."""
        schema = MESSAGE_SCHEMA.with_metadata({_AS_OF: str(self.as_of).encode()})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
            stream.write_table(self.counts.replace_schema_metadata(schema.metadata))
        return sink.getvalue().to_pybytes()

    @classmethod
    def from_bytes(cls, message: bytes) -> Self:
        """What a message says. Raises pyarrow.ArrowInvalid or KeyError for what is none."""
        counts = pa.ipc.open_stream(message).read_all()
        return cls(int(counts.schema.metadata[_AS_OF]), counts.select(MESSAGE_SCHEMA.names))
