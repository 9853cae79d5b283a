"""What the API answers.

What answers a body is a dataclass: it is made and written in a tenth of the time of a model that checks what the
server itself has just computed. It is neither frozen nor has slots: that would take three times as long.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from feature_repo.erasure import Store
from feature_repo.event_log import Verdict
from serving.in_time.attempt import Rung
from serving.plan import Group, RankedBy, Rule

Relaxed = Group | Literal[Rule.PIN]
"""A rule of a placement that a page may not be able to keep."""


@dataclass
class ChangedItems:
    """How many items of the catalog change."""

    items: int


@dataclass
class EventResult:
    """What became of one event."""

    event_id: str
    verdict: Verdict


@dataclass
class EventResults:
    """What became of the events, in their order."""

    events: list[EventResult]


class ErasureResult(BaseModel):
    """What became of an erasure that is certain to be carried out."""

    erased_at: int = Field(description="Microseconds since 1970 (UTC): what comes later is a new life.")
    removed: dict[Store, int] = Field(description="Entries that were removed, by store.")
    pending: list[Store] = Field(description="Stores that the next `freshet erase` works off.")


@dataclass
class FeatureContribution:
    """By how much a feature raised the item's score, or lowered it; ``value`` is null where it is unknown."""

    feature: str
    value: float | None
    contribution: float


@dataclass
class ItemExplanation:
    """Why an item is in the slate."""

    reason: Annotated[str, Field(description="As a person would say it.")]
    because_of: Annotated[str | None, Field(description="The item that the reason rests on.")]
    contributions: Annotated[
        list[FeatureContribution], Field(description="The strongest first; none without a ranker.")
    ]


@dataclass
class SlateItem:
    """One recommended item; ``position`` counts from 1."""

    item_id: str
    score: float
    position: int
    sources: Annotated[list[str], Field(description="Retrieval sources that brought the item.")]
    click_probability: Annotated[
        float | None,
        Field(description="That the shopper takes this item next; null where the model does not know."),
    ]
    purchase_probability: Annotated[
        float | None,
        Field(
            description="That the shopper buys this item within a day; null where the model does not know."
        ),
    ]
    propensity: Annotated[
        float,
        Field(
            description="The chance with which a new item was drawn for its place; 1 where nothing was drawn."
        ),
    ] = 1.0
    placed_by: Annotated[
        Rule | None,
        Field(description="The placement's rule that gave the item its place; null for its merit."),
    ] = None
    explanation: Annotated[
        ItemExplanation | None, Field(description="Only where the request asks to explain.")
    ] = None


@dataclass
class FeatureAge:
    """Seconds since each family of features was computed."""

    user: float
    item: float
    activity: Annotated[
        float | None,
        Field(
            description="Since all shoppers' events were counted; null while `freshet stream` does not run."
        ),
    ]
    session: Annotated[float, Field(description="Since the newest event of the window; 0 without one.")]


@dataclass
class Recommendations:
    """A slate. It is shorter than ``k`` where no more may be shown, or no more fits a search."""

    request_id: str
    items: list[SlateItem]
    model_version: str
    degraded: Annotated[
        list[str],
        Field(
            description="What had to be left out: session_window, or sources that failed or came too late."
        ),
    ]
    ranked_by: Annotated[
        RankedBy | Rung,
        Field(
            description="Who put the items in order: as the placement says, or a lesser one for lack of time."
        ),
    ]
    relaxed: Annotated[
        list[Relaxed],
        Field(
            description="Rules of the placement that this page does not keep: caps by their group, or `pin`."
        ),
    ]
    next_page: Annotated[
        str | None, Field(description="What to send as `page` for the next one; null where it ends.")
    ]
    feature_age: FeatureAge


class CatalogItem(BaseModel):
    """A row of the catalog."""

    item_id: str
    title: str | None
    category: str | None
    brand: str | None
    price: float | None
    available: bool | None
    created_at: datetime | None
    description: str | None
    tags: list[str] | None
    margin: float | None
    image_embedding: list[float] | None
    properties: dict[str, object] | None


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether requests can be answered, and how well."""

    ready: bool
    model_version: str | None
    event_log: Literal["available", "unavailable"]


class Problem(BaseModel):
    """What is wrong with one field of a request."""

    field: str
    message: str


class Refused(BaseModel):
    """A request that nothing was done for, and why."""

    detail: list[Problem]


class Failed(BaseModel):
    """Why there is no answer, and what to do."""

    detail: str
