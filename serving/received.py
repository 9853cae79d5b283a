"""What the API takes. Types are strict (no "1" for 1) and unknown fields are refused."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from feature_repo.catalog_changes import CatalogChange
from feature_repo.schema import AFTER_LAST_TIME, ID_PATTERN, MAX_QUERY_LENGTH, EventType
from serving.placements import HOME, RERANK
from serving.query import DEFAULT_SLATE_SIZE
from serving.reranking import PageToken

MAX_CONTEXT: Final = 100
"""Items, or brands, that one list of a request may name."""
MAX_PROPERTIES_BYTES: Final = 4096
MAX_GIVEN: Final = 500
"""Items that one request may have ordered."""
MAX_DESCRIPTION: Final = 10_000
MAX_EMBEDDING: Final = 4096
MAX_POSITION: Final = 2**31 - 1
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _to_microseconds(value: object) -> object:
    """Microseconds since 1970 of an ISO 8601 time; whole numbers are those already."""
    moment = value if isinstance(value, int) and not isinstance(value, bool) else _of_iso(value)
    if not 0 <= moment < AFTER_LAST_TIME:
        raise ValueError("is not between the years 1970 and 9999; whole numbers are microseconds since 1970")
    return moment


def _of_iso(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("must be ISO 8601 text or whole microseconds since 1970")  # noqa: TRY004
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("is not an ISO 8601 time") from None
    if moment.tzinfo is None:
        raise ValueError("needs an offset from UTC, such as Z")
    return (moment - EPOCH) // timedelta(microseconds=1)


def _to_json_text(value: object) -> object:
    """Text of a JSON object; None stays."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("must be an object")  # noqa: TRY004
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode())
        orjson.loads(text)  # whoever reads the log does the same
    except (ValueError, RecursionError):
        raise ValueError("must hold finite numbers and valid text, not nested deep") from None
    if size > MAX_PROPERTIES_BYTES:
        raise ValueError(f"must be at most {MAX_PROPERTIES_BYTES} bytes of JSON")
    return text


def _to_page_token(value: object) -> PageToken:
    if not isinstance(value, str):
        raise ValueError("must be the text of a page token")  # noqa: TRY004
    return PageToken.decode(value)


Id = Annotated[str, Field(pattern=ID_PATTERN)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_QUERY_LENGTH)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Timestamp = Annotated[
    int,
    BeforeValidator(_to_microseconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "integer", "minimum": 0, "maximum": AFTER_LAST_TIME - 1},
            ],
            "description": "ISO 8601 with an offset, or microseconds since 1970 (UTC).",
        }
    ),
]
Token = Annotated[PageToken, PlainValidator(_to_page_token), WithJsonSchema({"type": "string"})]
Properties = Annotated[
    str | None,
    BeforeValidator(_to_json_text),
    WithJsonSchema({"anyOf": [{"type": "object", "additionalProperties": True}, {"type": "null"}]}),
]


class Received(BaseModel):
    """Part of a request body."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ReceivedEvent(Received):
    """An event as a shop sends it: the columns of the event log without the arrival time."""

    event_id: Id | None = Field(None, description="Idempotency key; send one to be able to retry.")
    event_type: Annotated[EventType, Field(strict=False)]
    user_id: Id | None = None
    visitor_id: Id | None = None
    item_id: Id | None = None
    timestamp: Timestamp | None = Field(None, description="When it happened; now if absent.")
    session_id: Id | None = None
    placement: Id | None = None
    request_id: Id | None = Field(None, description="request_id of the slate that showed the item.")
    position: int | None = Field(None, ge=0, le=MAX_POSITION)
    query: Text | None = None
    quantity: float | None = Field(None, gt=0, allow_inf_nan=False)
    price: Amount | None = None
    value: Number | None = Field(None, description="A rating.")
    campaign_id: Id | None = None
    properties: Properties = None


class ReceivedItem(Received):
    """A row of the catalog as a shop sends it: what is left out, the item does not have."""

    item_id: Id
    title: Text | None = None
    category: Text | None = Field(None, description="Path, `home > kitchen > kettles`.")
    brand: Text | None = None
    price: Amount | None = None
    available: bool | None = None
    created_at: Timestamp | None = None
    description: str | None = Field(None, max_length=MAX_DESCRIPTION)
    tags: list[Text] | None = Field(None, max_length=MAX_CONTEXT)
    margin: Number | None = None
    image_embedding: list[Number] | None = Field(None, max_length=MAX_EMBEDDING)
    properties: Properties = None

    def change(self) -> CatalogChange:
        """All that there is to say of the item."""
        values = dict(self)
        return CatalogChange(values.pop("item_id"), values)


class ReceivedOffer(Received):
    """What changes of an item every hour; what is left out stays as it is."""

    item_id: Id
    price: Amount | None = None
    available: bool | None = None

    def change(self) -> CatalogChange:
        """What is said of the item."""
        return CatalogChange(
            self.item_id, {name: getattr(self, name) for name in self.model_fields_set - {"item_id"}}
        )


class Page(Received):
    """What the page shows right now; none of it is recommended."""

    item_ids: list[Id] = Field(
        [], max_length=MAX_CONTEXT, description="Items on the page, as if just viewed."
    )
    cart: list[Id] = Field([], max_length=MAX_CONTEXT, description="Items in the cart.")
    query: Text | None = Field(None, description="What the shopper searches for.")


class ReceivedFilters(Received):
    """What the slate may hold."""

    category: Text | None = Field(None, description="Category path; what lies below it is allowed, too.")
    brands: list[Text] | None = Field(None, min_length=1, max_length=MAX_CONTEXT)
    min_price: Amount | None = None
    max_price: Amount | None = None


class RecommendationRequest(Received):
    """Who asks, from where, and for what. Without a user or a visitor the answer is for anyone."""

    user_id: Id | None = None
    visitor_id: Id | None = None
    placement: Id = Field(HOME, description="The place of the shop that asks, one of those declared.")
    k: int = Field(DEFAULT_SLATE_SIZE, ge=1, description="Length of the slate.")
    context: Page = Page()
    filters: ReceivedFilters = ReceivedFilters()
    repeat_last_item: bool = Field(
        default=False, description="Whether the item of the newest interaction may come again."
    )
    explain: bool = Field(default=False, description="Whether to say why each item is in the slate.")
    diversity: float | None = Field(
        None,
        ge=0,
        le=1,
        description="From the order as it is, 0, to items that differ above all, 1; the placement's if absent.",
    )
    page: Token | None = Field(
        None, description="`next_page` of the last reply, for what comes after it; the first page if absent."
    )


class RerankRequest(Received):
    """Items of the caller, and who is to see them."""

    items: list[Id] = Field(
        min_length=1, max_length=MAX_GIVEN, description="In any order; one that comes twice counts once."
    )
    user_id: Id | None = None
    visitor_id: Id | None = None
    context: Page = Page()
    diversity: float | None = Field(None, ge=0, le=1, description="See POST /v1/recommendations.")

    def as_recommendation(self) -> RecommendationRequest:
        """The request for a slate of them all."""
        shared = self.model_dump(exclude={"items", "context"})
        return RecommendationRequest(placement=RERANK, k=len(self.items), context=self.context, **shared)
