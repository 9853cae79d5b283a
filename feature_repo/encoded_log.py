"""The archive as integer columns: what batch features and training read."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.arrays import Bool, Float32, Int8, Int32, Int64, Strings
from feature_repo.schema import EVENT_CODES, Event
from feature_repo.session_features import IS_INTERACTION, SESSION_GAP, UNKNOWN_ITEM, Window


@dataclass(frozen=True)
class EncodedLog:
    """Events sorted by shopper, then by (timestamp, event_id); all columns have one entry per event.

    shopper_keys and item_ids give the names behind the codes. shopper int32, item int32 (UNKNOWN_ITEM where
    the event has none), type int8, time int64 (microseconds), price and value float32 (NaN where absent),
    identified bool (False for an anonymous event from before its visitor was linked to the user it is counted to:
    at that moment nobody could know), row int64 (the event's row in the table it came from).
    """

    shopper_keys: Strings
    item_ids: Strings
    shopper: Int32
    item: Int32
    type: Int8
    time: Int64
    price: Float32
    value: Float32
    identified: Bool
    row: Int64

    def __len__(self) -> int:
        return len(self.time)

    def select(self, keep: Bool) -> "EncodedLog":
        """The events where ``keep`` is True, under the same names."""
        return EncodedLog(
            self.shopper_keys,
            self.item_ids,
            self.shopper[keep],
            self.item[keep],
            self.type[keep],
            self.time[keep],
            self.price[keep],
            self.value[keep],
            self.identified[keep],
            self.row[keep],
        )

    def before(self, moment: int) -> "EncodedLog":
        """The events earlier than ``moment`` (microseconds)."""
        return self.select(self.time < moment)

    def interactions(self) -> "EncodedLog":
        """The events by which a shopper shows interest in an item."""
        return self.select(IS_INTERACTION[self.type] & (self.item != UNKNOWN_ITEM))

    def offsets(self) -> Int64:
        """int64[shoppers + 1]: the events of shopper s are [offsets[s], offsets[s + 1])."""
        return np.searchsorted(self.shopper, np.arange(len(self.shopper_keys) + 1))

    def session(self) -> Int64:
        """int64[events]: number of the session that each event belongs to; a silence of SESSION_GAP ends one."""
        new_shopper = np.diff(self.shopper, prepend=-1) != 0
        silence = np.diff(self.time, prepend=self.time[:1]) > SESSION_GAP
        return np.cumsum(new_shopper | silence) - 1

    def window(self, start: int, stop: int) -> Window:
        """Events [start, stop), all of one shopper, as a window."""
        span = slice(start, stop)
        return Window(self.item[span], self.type[span], self.time[span])


def encode_log(events: pa.Table, item_ids: Strings) -> EncodedLog:
    """Encode archived ``events`` (EVENT_SCHEMA) against the vocabulary ``item_ids``.

    A visitor's anonymous events go to the user it was last linked to: the one in the visitor's newest event
    that names both. Impressions stay in: they are no part of a window, but rates need them.
    """
    by_time = pc.sort_indices(events, sort_keys=[(Event.TIMESTAMP, "ascending"), (Event.ID, "ascending")])
    events = events.take(by_time)
    keys, identified = resolve_shoppers(events)
    shopper, shopper_keys = pd.factorize(keys, sort=True)
    order = np.argsort(shopper, kind="stable")
    item = pd.Index(item_ids).get_indexer(events[Event.ITEM].to_pandas())
    types = events[Event.TYPE].to_pandas().map(EVENT_CODES).to_numpy()
    return EncodedLog(
        shopper_keys=np.asarray(shopper_keys, dtype=object),
        item_ids=item_ids,
        shopper=shopper[order].astype(np.int32),
        item=item[order].astype(np.int32),
        type=types[order].astype(np.int8),
        time=_microseconds(events[Event.TIMESTAMP])[order],
        price=_floats(events[Event.PRICE])[order],
        value=_floats(events[Event.VALUE])[order],
        identified=identified[order],
        row=by_time.to_numpy()[order].astype(np.int64),
    )


def resolve_shoppers(events: pa.Table) -> tuple[pd.Series, Bool]:
    """Shopper key of every event, visitors replaced by the user they are linked to; where it was known then.

    ``events`` are sorted by (timestamp, event_id).
    """
    users = events[Event.USER].to_pandas().to_numpy(dtype=object)
    visitors = events[Event.VISITOR].to_pandas().to_numpy(dtype=object)
    has_user = pd.notna(users)
    both = has_user & pd.notna(visitors)
    links = pd.DataFrame(
        {
            "visitor": visitors[both],
            "user": users[both],
            "time": _microseconds(events[Event.TIMESTAMP])[both],
        }
    )
    newest = links.drop_duplicates("visitor", keep="last").set_index("visitor")["user"]
    first_time = links.drop_duplicates("visitor", keep="first").set_index("visitor")["time"]
    linked = pd.Series(visitors).map(newest)
    first_link = pd.Series(visitors).map(first_time).to_numpy(dtype=float)
    linked_later = first_link > _microseconds(events[Event.TIMESTAMP])
    user = pd.Series(np.where(has_user, users, linked.to_numpy(dtype=object)), dtype=object)
    visitor = pd.Series(visitors, dtype=object)
    return user.radd("u:").where(user.notna(), visitor.radd("v:")), has_user | ~linked_later


def _microseconds(column: pa.ChunkedArray) -> Int64:
    return column.cast(pa.int64()).to_numpy()


def _floats(column: pa.ChunkedArray) -> Float32:
    return column.cast(pa.float32(), safe=False).to_numpy()
