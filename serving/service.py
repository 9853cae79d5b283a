"""What the API does, free of HTTP: take events, recommend, look up an item."""

import logging
import math
import time
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import orjson

from feature_repo.arrays import Float32
from feature_repo.errors import LogUnavailableError
from feature_repo.event_log import EventLog, Shopper
from feature_repo.ranking_features import SOURCES
from feature_repo.schema import SECOND, Item, shopper_key
from feature_repo.settings import Settings
from serving.bundle import Manifest
from serving.calibration import Calibration
from serving.hydration import answers, hydrate
from serving.ingestion import to_log
from serving.live_model import LiveModel
from serving.load_shedding import LoadShedding
from serving.metrics import Metrics
from serving.query import Filters, Question
from serving.schemas import (
    CatalogItem,
    EventResult,
    EventResults,
    FeatureAge,
    Readiness,
    ReceivedEvent,
    RecommendationRequest,
    Recommendations,
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
        self.metrics = Metrics()
        self.model = LiveModel(settings.models_dir, settings.candidates, self.metrics)
        self.served_log = ServedLog(
            settings.served_dir, settings.served_log_queue, settings.served_log_flush_seconds, self.metrics
        )
        self.load_shedding = LoadShedding(log)
        self._log_is_away = False

    async def append(self, received: Sequence[ReceivedEvent]) -> EventResults:
        """Log events; when this returns they are in the log and in their shoppers' windows, but for those shed.

        Raises RefusedEventsError, and logs none, when any event breaks a rule; LogUnavailableError.
        """
        events = to_log(received, _now(), self.settings)
        try:
            verdicts = await self.load_shedding.append(events)
        except LogUnavailableError:
            self._note_log(away=True)
            raise
        self._note_log(away=False)
        self.metrics.count_events(events, verdicts)
        return EventResults(
            events=[
                EventResult(event_id=event.event_id, verdict=verdict)
                for event, verdict in zip(events, verdicts, strict=True)
            ]
        )

    async def recommend(self, request: RecommendationRequest) -> Recommendations:
        """A slate. Raises BundleError before the first model is published."""
        recommender = self.model.recommender
        bundle = recommender.bundle
        request_id, as_of = uuid4().hex, _now()
        with self.metrics.stage("hydrate"):
            shopper, degraded = await hydrate(
                self.log, request.user_id, request.visitor_id, self.settings.redis_timeout_seconds
            )
            if request.user_id or request.visitor_id:  # else the log was not asked
                self._note_log(away=bool(degraded))
            question = Question(
                events=shopper.window,
                shopper_key=_key(shopper.user_id, request.visitor_id),
                as_of=as_of,
                k=request.k,
                context_items=request.context.item_ids,
                cart=request.context.cart,
                filters=Filters(**dict(request.filters)),
                repeat_last=request.repeat_last_item,
                online=shopper.features,
            )
            query = question.encode(bundle)
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
        age = _feature_age(bundle.manifest, shopper, as_of)
        self.metrics.count_slate(slate, degraded, age.session)
        return Recommendations(
            request_id=request_id,
            items=_slate_items(shown, bundle.calibration),
            model_version=bundle.manifest.version,
            degraded=degraded,
            feature_age=age,
        )

    def item(self, item_id: str) -> CatalogItem | None:
        """The item's row in the live model's catalog. Raises BundleError before the first model is published."""
        bundle = self.model.recommender.bundle
        index = bundle.item_index.get(item_id)
        if index is None:
            return None
        [row] = bundle.catalog.slice(index, 1).to_pylist()
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

    def _note_log(self, *, away: bool) -> None:
        """Say once that the event log went away, and once that it came back."""
        if away != self._log_is_away:
            self._log_is_away = away
            logger.warning(
                "the event log %s", "is away: events get 503, slates do without" if away else "is back"
            )


def _now() -> int:
    return time.time_ns() // 1000


def _key(user_id: str | None, visitor_id: str | None) -> str | None:
    return shopper_key(user_id, visitor_id) if user_id or visitor_id else None


def _feature_age(manifest: Manifest, shopper: Shopper, as_of: int) -> FeatureAge:
    user = shopper.features.computed_at if shopper.features else manifest.created
    session = shopper.window[-1].timestamp if shopper.window else as_of
    return FeatureAge(
        user=max(as_of - user, 0) / SECOND,
        item=(as_of - manifest.created) / SECOND,
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


def _numbers(values: Float32) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]
