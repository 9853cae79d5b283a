"""What the API answers of a replayed request."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from pydantic import BaseModel, Field

from serving.explanation import explain
from serving.replays.absence import Stage, fate_of
from serving.replays.logged_request import LoggedItem
from serving.replays.replay import Replay
from serving.replies import SlateItem
from serving.served.question_text import to_text
from serving.served.served_slate import ServedItems
from serving.slate_reply import calibration_of, explained, slate_items

TOLERANCE: Final = 1e-6
"""Relative: another processor may round the last bit of a score differently."""


class LoggedSlateItem(BaseModel):
    """One item as it was served; ``position`` counts from 1."""

    item_id: str
    position: int
    score: float
    sources: list[str]


class ItemFate(BaseModel):
    """What became of an item of the shop."""

    item_id: str
    stage: Stage = Field(description="The first stage that lost it; `shown` where none did.")
    reason: str = Field(description="As a person would say it.")


class ReplayedRequest(BaseModel):
    """A request as it was logged, and what it is answered now from what it was answered from."""

    request_id: str
    as_of: int = Field(description="Microseconds since 1970 (UTC).")
    user_id: str | None
    visitor_id: str | None
    placement: str | None
    model_version: str
    bundle: str = Field(
        description="Where the model stands under `models/`: as trained, or as refreshed since."
    )
    catalog_state: str | None = Field(description="Which prices and availability lay over the model.")
    activity_state: str | None = Field(description="Which counts of all shoppers' events lay over the model.")
    degraded: list[str] = Field(description="What had to be left out then.")
    same: bool = Field(description="Whether the replayed slate is the served one: items, order and scores.")
    served: list[LoggedSlateItem]
    replayed: list[SlateItem] = Field(description="With explanations.")
    item: ItemFate | None = Field(description="What became of the item that was asked for.")
    question: dict[str, object] = Field(description="All that was asked, and known of the shopper.")


def reply_of(replay: Replay, item_id: str | None) -> ReplayedRequest:
    """The reply, which says what became of the item of this id, if any."""
    logged, answer = replay
    bundle = answer.recommender.bundle
    shown = ServedItems.shown(answer.slate, bundle)
    items = slate_items(shown, calibration_of(answer.slate, logged.question.plan, bundle))
    explanations = explain(bundle, answer.query, answer.slate)
    return ReplayedRequest(
        request_id=logged.request_id,
        as_of=logged.question.as_of,
        user_id=logged.user_id,
        visitor_id=logged.visitor_id,
        placement=logged.placement,
        model_version=logged.model_version,
        bundle=logged.bundle,
        catalog_state=logged.catalog_state,
        activity_state=logged.activity_state,
        degraded=list(logged.degraded),
        same=_same(logged.items, shown),
        served=[LoggedSlateItem(**item._asdict()) for item in logged.items],
        replayed=explained(items, explanations, bundle),
        item=None if item_id is None else _fate(item_id, replay),
        question=msgspec.json.decode(to_text(logged.question))
        | {"events": [msgspec.structs.asdict(event) for event in logged.question.events]},
    )


def _same(logged: Sequence[LoggedItem], shown: ServedItems) -> bool:
    return [item.item_id for item in logged] == shown.item_ids.tolist() and np.allclose(
        np.array([item.score for item in logged], np.float32), shown.scores, rtol=TOLERANCE, atol=0
    )


def _fate(item_id: str, replay: Replay) -> ItemFate:
    stage, reason = fate_of(item_id, replay.answer)
    return ItemFate(item_id=item_id, stage=stage, reason=reason)
