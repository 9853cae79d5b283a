"""What the API does, free of HTTP: take events, recommend, look up an item."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import uuid4

import orjson

from feature_repo.arrays import Float32
from feature_repo.catalog_changes import CatalogChange
from feature_repo.erasure import ON_DISK, ONLINE, Erasure, PendingErasures
from feature_repo.errors import LogUnavailableError
from feature_repo.event_log import EventLog, Shopper, Verdict
from feature_repo.ranking_features import SOURCES
from feature_repo.schema import SECOND, Item, shopper_key
from feature_repo.settings import Settings
from feature_repo.tombstones import Tombstones
from serving.bundle import Bundle, Manifest
from serving.calibration import Calibration
from serving.explanation import Explanation, explain
from serving.hydration import answers, hydrate
from serving.ingestion import to_log
from serving.live_activity import LiveActivity
from serving.live_catalog import LiveCatalog
from serving.live_model import LiveModel
from serving.load_shedding import LoadShedding
from serving.metrics import Metrics
from serving.placements import SHIPPED, read_placements
from serving.query import Filters, Question
from serving.schemas import (
    CatalogItem,
    ChangedItems,
    ErasureResult,
    EventResults,
    FeatureAge,
    FeatureContribution,
    ItemExplanation,
    Readiness,
    ReceivedEvent,
    RecommendationRequest,
    Recommendations,
    RerankRequest,
    SlateItem,
)
from serving.served_log import ServedLog
from serving.served_slate import ServedItems, ServedSlate, is_among
from serving.sources.popularity import popular

logger = logging.getLogger(__name__)

FILL: Final = popular.__name__
"""Where items come from that lengthen a slate whose candidates ran out."""


class Service:
    """The online side of one shop, in one event loop."""

    def __init__(self, settings: Settings, log: EventLog) -> None:
        self.settings = settings
        self.log = log
        self.placements = read_placements(settings.placements or SHIPPED)
        self.metrics = Metrics()
        self.catalog = LiveCatalog(log.catalog, settings.catalog_dir)
        self.model = LiveModel(settings.models_dir, settings.candidates, self.catalog, self.metrics)
        self.activity = LiveActivity(log, self.model)
        self.metrics.watch_activity(self.activity.age)
        self.served_log = ServedLog(
            settings.served_dir, settings.served_log_queue, settings.served_log_flush_seconds, self.metrics
        )
        self.load_shedding = LoadShedding(log)
        self._tombstones = Tombstones(settings.archive_dir)
        self._erasures = PendingErasures(settings.erasures_dir, self._tombstones)
        self._log_is_away = False

    async def append(self, received: Sequence[ReceivedEvent]) -> EventResults:
        """Log events; when this returns they are in the log and in their shoppers' windows, but for those shed.

        Those that happened before their shopper was erased are dropped.
        Raises RefusedEventsError, and logs none, when any event breaks a rule; LogUnavailableError.
        """
        events = to_log(received, _now(), self.settings)
        erased = self._tombstones.cover(events)
        kept = [event for event, dropped in zip(events, erased, strict=True) if not dropped]
        try:
            appended = iter(await self.load_shedding.append(kept))
        except LogUnavailableError:
            self._note_log(away=True)
            raise
        self._note_log(away=False)
        verdicts = [Verdict.ERASED if dropped else next(appended) for dropped in erased]
        self.metrics.count_events(events, verdicts)
        results = [
            {"event_id": event.event_id, "verdict": verdict}
            for event, verdict in zip(events, verdicts, strict=True)
        ]
        return EventResults.model_validate({"events": results})

    async def rerank(self, request: RerankRequest) -> Recommendations:
        """All of the request's items; what the model does not know comes last, in its order. Raises BundleError."""
        given = list(dict.fromkeys(request.items))
        ordered = await self.recommend(request.as_recommendation(), given)
        known = {item.item_id for item in ordered.items}
        floor = ordered.items[-1].score if ordered.items else 0.0
        unknown = [
            SlateItem(
                item_id=item_id,
                score=floor - number,
                position=len(known) + number,
                sources=[],
                click_probability=None,
                purchase_probability=None,
            )
            for number, item_id in enumerate((name for name in given if name not in known), 1)
        ]
        return ordered.model_copy(update={"items": [*ordered.items, *unknown]})

    async def recommend(
        self, request: RecommendationRequest, given: Sequence[str] | None = None
    ) -> Recommendations:
        """A slate, of the ``given`` items if there are any. Raises BundleError before the first model is live."""
        recommender = self.model.recommender
        bundle, placement = recommender.bundle, self.placements[request.placement]
        request_id, as_of = uuid4().hex, _now()
        with self.metrics.stage("hydrate"):
            shopper, degraded = await hydrate(
                self.log, request.user_id, request.visitor_id, self.settings.redis_timeout_seconds
            )
            if request.user_id or request.visitor_id:  # else the log was not asked
                self._note_log(away=bool(degraded))
            question = Question(
                events=shopper.window,
                shopper_key=self._known_key(shopper.user_id, request.visitor_id, bundle.manifest),
                as_of=as_of,
                k=request.k,
                context_items=request.context.item_ids,
                cart=request.context.cart,
                text=request.context.query,
                filters=Filters(**dict(request.filters)),
                repeat_last=request.repeat_last_item,
                online=shopper.features,
                plan=placement.plan(request.diversity),
                given=given,
            )
            query = question.encode(bundle, self.activity.of(bundle))
        [slate] = recommender.recommend([query], self.metrics.stage)
        shown = ServedItems.shown(slate, bundle)
        full = is_among(self.settings.served_log_full_share, request_id)
        self.served_log.put(
            ServedSlate(
                request_id=request_id,
                as_of=as_of,
                user_id=shopper.user_id,
                visitor_id=request.visitor_id,
                placement=request.placement,
                model_version=bundle.manifest.version,
                window=shopper.window,
                context_items=request.context.item_ids,
                cart=request.context.cart,
                items=shown.with_others(slate, bundle) if full else shown,
            )
        )
        age = _feature_age(bundle.manifest, shopper, self.activity.age(), as_of)
        self.metrics.count_slate(slate, degraded, age.session)
        items = _slate_items(shown, bundle.calibration)
        if request.explain:
            for item, explanation in zip(items, explain(bundle, query, slate), strict=True):
                item.explanation = _explanation(explanation, bundle)
        return Recommendations(
            request_id=request_id,
            items=items,
            model_version=bundle.manifest.version,
            degraded=degraded,
            relaxed=list(slate.relaxed),
            feature_age=age,
        )

    def require_placement(self, name: str) -> str:
        """The name, if a placement has it; else ValueError."""
        if name not in self.placements:
            raise ValueError(f"there is no placement of this name, only {', '.join(self.placements)}")
        return name

    async def erase(self, user_id: str | None, visitor_id: str | None) -> ErasureResult:
        """Erase a user with its visitors, or a visitor: from Redis at once, from disk by ``freshet erase``.

        From the first await on it is certain to happen, whatever is killed. Raises LogUnavailableError when Redis
        could not be reached; the erasure is then carried out later, or when it is asked for again.
        """
        asked = Erasure(user_id, frozenset([visitor_id] if visitor_id else []), _now())
        await asyncio.to_thread(self._erasures.put, asked)
        if user_id:
            asked = asked.with_visitors(await self.log.visitors_of(user_id))
            await asyncio.to_thread(self._erasures.put, asked)
        # All that is there now is of before, also what a clock that is ahead has dated later.
        ahead = round(self.settings.event_max_ahead_seconds * SECOND)
        removed = await self.log.erase(replace(asked, erased_at=asked.erased_at + ahead))
        return ErasureResult(
            erased_at=asked.erased_at,
            removed={store: removed.get(store, 0) for store in ONLINE},
            pending=list(ON_DISK),
        )

    async def change_items(self, changes: Sequence[CatalogChange]) -> ChangedItems:
        """Change the catalog; every server acts on it within a second. Raises LogUnavailableError."""
        await self.log.catalog.append(changes)
        return ChangedItems(items=len(changes))

    def item(self, item_id: str) -> CatalogItem | None:
        """The item's row in the live model's catalog. Raises BundleError before the first model is published."""
        bundle = self.model.recommender.bundle
        index = bundle.item_index.get(item_id)
        if index is None:
            return None
        [row] = bundle.catalog.slice(index, 1).to_pylist()
        row |= self.catalog.changed(item_id)
        text = row[Item.PROPERTIES]
        return CatalogItem(**{**row, Item.PROPERTIES: None if text is None else orjson.loads(text)})

    async def readiness(self) -> Readiness:
        """Ready is who has a model: without the event log there are answers, if lesser ones."""
        available = await answers(self.log, self.settings.redis_timeout_seconds)
        return Readiness(
            ready=self.model.version is not None,
            model_version=self.model.version,
            event_log="available" if available else "unavailable",
        )

    def _known_key(self, user_id: str | None, visitor_id: str | None, manifest: Manifest) -> str | None:
        """By which key the model may know the shopper: none where it learned of what was erased since."""
        if not user_id and not visitor_id:
            return None
        key = shopper_key(user_id, visitor_id)
        erased_at = self._tombstones.erased_at(key)
        return None if erased_at is not None and erased_at >= manifest.training_end else key

    def _note_log(self, *, away: bool) -> None:
        """Say once that the event log went away, and once that it came back."""
        if away != self._log_is_away:
            self._log_is_away = away
            logger.warning(
                "the event log %s", "is away: events get 503, slates do without" if away else "is back"
            )


def _now() -> int:
    return time.time_ns() // 1000


def _feature_age(manifest: Manifest, shopper: Shopper, activity: float | None, as_of: int) -> FeatureAge:
    user = shopper.features.computed_at if shopper.features else manifest.created
    session = shopper.window[-1].timestamp if shopper.window else as_of
    return FeatureAge(
        user=max(as_of - user, 0) / SECOND,
        item=(as_of - manifest.created) / SECOND,
        activity=activity,
        session=max(as_of - session, 0) / SECOND,
    )


def _slate_items(shown: ServedItems, calibration: Calibration) -> list[SlateItem]:
    rows = zip(
        shown.item_ids,
        shown.scores.tolist(),
        shown.brought.tolist(),
        _numbers(calibration.click(shown.scores)),
        _numbers(calibration.purchase(shown.scores)),
        strict=True,
    )
    return [
        SlateItem(
            item_id=item_id,
            score=score,
            position=position,
            sources=[name for name, there in zip(SOURCES, brought, strict=True) if there] or [FILL],
            click_probability=click,
            purchase_probability=purchase,
        )
        for position, (item_id, score, brought, click, purchase) in enumerate(rows, 1)
    ]


def _explanation(explanation: Explanation, bundle: Bundle) -> ItemExplanation:
    because_of = explanation.reason.item
    return ItemExplanation(
        reason=explanation.reason.text,
        because_of=None if because_of is None else bundle.item_ids[because_of],
        contributions=[
            FeatureContribution(
                feature=one.feature,
                value=None if math.isnan(one.value) else one.value,
                contribution=one.contribution,
            )
            for one in explanation.contributions
        ],
    )


def _numbers(values: Float32) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]
