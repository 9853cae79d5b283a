"""The one definition of an event, an item and a user: columns, types, Arrow schemas.

Times are UTC and counted in microseconds since 1970 wherever they are plain integers.
"""

from enum import StrEnum
from typing import Final

import pyarrow as pa

SECOND: Final = 1_000_000
"""Microseconds in a second."""
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
AFTER_LAST_TIME: Final = 2_932_897 * DAY
"""Start of the year 10000, from which on moments have no names."""

CATEGORY_SEPARATOR: Final = " > "
"""Between the levels of a category path: ``home > kitchen > mugs``."""

MAX_ID_LENGTH: Final = 128
ID_PATTERN: Final = rf"^[^\x00-\x1f\x7f]{{1,{MAX_ID_LENGTH}}}$"
"""What an id may be: 1 to 128 characters, none of them a control character."""
MAX_QUERY_LENGTH: Final = 512


class EventType(StrEnum):
    """What a shopper did. The order gives each type its code; append, never reorder."""

    IMPRESSION = "impression"
    VIEW = "view"
    CLICK = "click"
    ADD_TO_CART = "add_to_cart"
    REMOVE_FROM_CART = "remove_from_cart"
    FAVORITE = "favorite"
    PURCHASE = "purchase"
    RETURN = "return"
    RATE = "rate"
    SEARCH = "search"
    REDEEM = "redeem"

    @property
    def code(self) -> int:
        """Position in the enumeration, as windows and features carry it."""
        return EVENT_CODES[self]


EVENT_CODES: Final[dict[str, int]] = {event_type.value: code for code, event_type in enumerate(EventType)}

INTERACTION_TYPES: Final = (
    EventType.VIEW,
    EventType.CLICK,
    EventType.ADD_TO_CART,
    EventType.FAVORITE,
    EventType.PURCHASE,
    EventType.RATE,
)
"""Events by which a shopper shows interest in an item: what models learn from and aim at."""

ITEMLESS_TYPES: Final = (EventType.SEARCH, EventType.REDEEM)
"""Events that may come without an item."""


class Event:
    """Columns of the event log. See EVENT_SCHEMA for their types."""

    ID = "event_id"
    TYPE = "event_type"
    USER = "user_id"
    VISITOR = "visitor_id"
    ITEM = "item_id"
    TIMESTAMP = "timestamp"
    ARRIVAL = "arrival_time"
    SESSION = "session_id"
    PLACEMENT = "placement"
    REQUEST = "request_id"
    POSITION = "position"
    QUERY = "query"
    QUANTITY = "quantity"
    PRICE = "price"
    VALUE = "value"
    CAMPAIGN = "campaign_id"
    PROPERTIES = "properties"


class Item:
    """Columns of the catalog. See ITEM_SCHEMA for their types."""

    ID = "item_id"
    TITLE = "title"
    CATEGORY = "category"
    BRAND = "brand"
    PRICE = "price"
    AVAILABLE = "available"
    CREATED_AT = "created_at"
    DESCRIPTION = "description"
    TAGS = "tags"
    MARGIN = "margin"
    IMAGE_EMBEDDING = "image_embedding"
    PROPERTIES = "properties"


class User:
    """Columns of the optional user file. See USER_SCHEMA for their types."""

    ID = "user_id"
    CONSENT = "consent"
    PROPERTIES = "properties"


_TIME = pa.timestamp("us", tz="UTC")

EVENT_SCHEMA: Final = pa.schema(
    [
        pa.field(Event.ID, pa.string(), nullable=False),
        pa.field(Event.TYPE, pa.string(), nullable=False),
        pa.field(Event.USER, pa.string()),
        pa.field(Event.VISITOR, pa.string()),
        pa.field(Event.ITEM, pa.string()),
        pa.field(Event.TIMESTAMP, _TIME, nullable=False),
        pa.field(Event.ARRIVAL, _TIME, nullable=False),
        pa.field(Event.SESSION, pa.string()),
        pa.field(Event.PLACEMENT, pa.string()),
        pa.field(Event.REQUEST, pa.string()),
        pa.field(Event.POSITION, pa.int32()),
        pa.field(Event.QUERY, pa.string()),
        pa.field(Event.QUANTITY, pa.float64()),
        pa.field(Event.PRICE, pa.float64()),
        pa.field(Event.VALUE, pa.float64()),
        pa.field(Event.CAMPAIGN, pa.string()),
        pa.field(Event.PROPERTIES, pa.string()),  # a JSON object
    ]
)

ITEM_SCHEMA: Final = pa.schema(
    [
        pa.field(Item.ID, pa.string(), nullable=False),
        pa.field(Item.TITLE, pa.string()),
        pa.field(Item.CATEGORY, pa.string()),
        pa.field(Item.BRAND, pa.string()),
        pa.field(Item.PRICE, pa.float64()),
        pa.field(Item.AVAILABLE, pa.bool_()),
        pa.field(Item.CREATED_AT, _TIME),
        pa.field(Item.DESCRIPTION, pa.string()),
        pa.field(Item.TAGS, pa.list_(pa.string())),
        pa.field(Item.MARGIN, pa.float64()),
        pa.field(Item.IMAGE_EMBEDDING, pa.list_(pa.float32())),
        pa.field(Item.PROPERTIES, pa.string()),  # a JSON object
    ]
)

USER_SCHEMA: Final = pa.schema(
    [
        pa.field(User.ID, pa.string(), nullable=False),
        pa.field(User.CONSENT, pa.bool_()),
        pa.field(User.PROPERTIES, pa.string()),  # a JSON object of the shop's own attributes
    ]
)


def shopper_key(user_id: str | None, visitor_id: str | None) -> str:
    """Name of the one window that an event goes to: ``u:ID`` when a user is known, else ``v:ID``.

    Raises ValueError when both are missing.
    """
    if user_id:
        return f"u:{user_id}"
    if visitor_id:
        return f"v:{visitor_id}"
    raise ValueError("an event needs a user_id or a visitor_id")
