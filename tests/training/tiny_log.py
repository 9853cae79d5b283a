"""Logs of a few events, each written as what happened."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from feature_repo.encoded_log import EncodedLog, encode_log
from feature_repo.events import LoggedEvent, to_table
from feature_repo.schema import MINUTE, EventType

NOON = 1_750_000_000_000_000
"""A moment, in microseconds; minutes are counted from here."""


class Happened(NamedTuple):
    """A shopper (``ann``, or ``v:ann`` for a visitor), an item and the minute after NOON."""

    shopper: str
    item: str | None
    minute: float
    type: EventType = EventType.VIEW
    price: float | None = None


def at(minute: float) -> int:
    """Microseconds of a minute after NOON."""
    return NOON + int(minute * MINUTE)


def table(happened: Iterable[Happened]) -> pa.Table:
    """The events as the archive holds them, named e0000, e0001, ... in the order given."""
    return to_table(
        LoggedEvent(
            event_id=f"e{number:04}",
            event_type=what.type.value,
            user_id=None if what.shopper.startswith("v:") else what.shopper,
            visitor_id=what.shopper[2:] if what.shopper.startswith("v:") else None,
            item_id=what.item,
            timestamp=at(what.minute),
            arrival_time=at(what.minute),
            price=what.price,
        )
        for number, what in enumerate(happened)
    )


def encoded(happened: Sequence[Happened], items: Sequence[str] = ()) -> EncodedLog:
    """The events as integer columns; the codes are the places of the sorted items, ``items`` among them."""
    names = sorted({*items, *(what.item for what in happened if what.item)})
    return encode_log(table(happened), np.array(names, dtype=object))
