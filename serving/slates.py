"""Slates: a request's way through the recommender to its reply."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

from feature_repo.event_log import EventLog, Shopper
from feature_repo.schema import shopper_key
from feature_repo.settings import Settings
from feature_repo.tombstones import Tombstones
from serving.bundle import Manifest
from serving.explanation import explain
from serving.hydration import LogState, hydrate
from serving.in_time.attempt import Rung
from serving.in_time.breakers import Breakers
from serving.in_time.deadlines import Deadlines
from serving.live_activity import LiveActivity
from serving.live_model import LiveModel
from serving.metrics import Metrics
from serving.placements import placements_of
from serving.query import Filters, Question
from serving.received import RecommendationRequest, RerankRequest
from serving.replies import Recommendations, Relaxed, SlateItem
from serving.served.activity_state import state_of
from serving.served.request_id import is_among, new_request_id, seed_of
from serving.served.served_log import ServedLog
from serving.served.served_slate import ServedItems, ServedSlate
from serving.served.state_journal import ACTIVITY, StateJournal
from serving.slate_reply import calibration_of, explained, feature_age, next_page, slate_items


class Slates:
    """Answers the requests for slates of one shop."""

    def __init__(
        self,
        settings: Settings,
        log: EventLog,
        model: LiveModel,
        tombstones: Tombstones,
        metrics: Metrics,
    ) -> None:
        self.log_state = LogState()
        self.placements = placements_of(settings.placements)
        activity_journal = StateJournal(settings.replay_dir / ACTIVITY)
        self.activity = LiveActivity(log, model, activity_journal)
        self.served_log = ServedLog(
            settings.served_dir,
            settings.served_log_queue,
            settings.served_log_flush_seconds,
            metrics,
            [model.journal, activity_journal],
        )
        self._settings = settings
        self._log = log
        self._model = model
        self._tombstones = tombstones
        self._metrics = metrics
        self._breakers = Breakers()
        self._deadlines = Deadlines(self._breakers, metrics)
        metrics.watch_activity(self.activity.age)
        metrics.watch_breakers(self._breakers.open)

    async def recommend(
        self, request: RecommendationRequest, given: Sequence[str] | None = None
    ) -> Recommendations:
        """A slate, of the ``given`` items if there are any. Raises BundleError before the first model is live."""
        recommender = self._model.recommender
        bundle, as_of = recommender.bundle, time.time_ns() // 1000
        request_id = new_request_id(as_of)
        until = time.monotonic() + self._settings.slate_seconds
        began = time.perf_counter()
        shopper, degraded = await self._hydrate(request)
        key = self._known_key(shopper.user_id, request.visitor_id, bundle.manifest)
        question = self._question(request, shopper, key, as_of)
        question = replace(question, given=given, seed=seed_of(request_id))
        activity, catalog_state = self.activity.of(bundle), bundle.catalog_state
        query = question.encode(bundle, activity)
        self._metrics.stage_took("hydrate", time.perf_counter() - began)
        slate, left_out = await self._deadlines.recommend(recommender, query, until)
        degraded += left_out
        shown = ServedItems.shown(slate, bundle)
        full = is_among(self._settings.served_log_full_share, request_id)
        self.served_log.put(
            ServedSlate(
                request_id=request_id,
                user_id=shopper.user_id,
                visitor_id=request.visitor_id,
                placement=request.placement,
                model_version=bundle.manifest.version,
                bundle=bundle.place,
                question=question,
                candidates=recommender.candidates,
                # What changed while the slate was made may be in it or not.
                catalog_state=catalog_state if catalog_state == bundle.catalog_state else None,
                activity_state=state_of(activity),
                degraded=degraded,
                ranked_by=slate.ranked_by,
                items=shown.with_others(slate, bundle) if full else shown,
            )
        )
        age = feature_age(bundle.manifest, shopper, self.activity.age(), as_of)
        self._metrics.count_slate(slate, degraded, age.session)
        items = slate_items(shown, calibration_of(slate, question.plan, bundle))
        if request.explain:
            items = explained(items, explain(bundle, query, slate), bundle)
        return Recommendations(
            request_id=request_id,
            items=items,
            model_version=bundle.manifest.version,
            degraded=degraded,
            relaxed=cast("list[Relaxed]", list(slate.relaxed)),
            ranked_by=question.plan.ranked_by if slate.ranked_by == Rung.RANKERS else slate.ranked_by,
            next_page=next_page(request.page, shown, bundle.manifest.version) if slate.more else None,
            feature_age=age,
        )

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
        return replace(ordered, items=[*ordered.items, *unknown])

    @contextmanager
    def running(self) -> Iterator[None]:
        """Write the served log while this is open; at its end all that waits is written, and the threads end."""
        try:
            with self.served_log.running():
                yield
        finally:
            self._deadlines.close()

    def require_placement(self, name: str) -> str:
        """The name, if a placement has it; else ValueError."""
        if name not in self.placements:
            raise ValueError(f"there is no placement of this name, only {', '.join(self.placements)}")
        return name

    async def _hydrate(self, request: RecommendationRequest) -> tuple[Shopper, list[str]]:
        """The shopper, waited for during half of a slate's time at most, and what is missing of it."""
        patience = min(self._settings.redis_timeout_seconds, self._settings.slate_seconds / 2)
        shopper, missing = await hydrate(
            self._log, request.user_id, request.visitor_id, patience, self._breakers
        )
        if request.user_id or request.visitor_id:  # else the log was not asked
            self.log_state.note(away=bool(missing))
        return shopper, missing

    def _question(
        self, request: RecommendationRequest, shopper: Shopper, shopper_key: str | None, as_of: int
    ) -> Question:
        """What a shopper asks, who may be known to the model by the key."""
        return Question(
            events=shopper.window,
            shopper_key=shopper_key,
            as_of=as_of,
            k=request.k,
            context_items=request.context.item_ids,
            cart=request.context.cart,
            text=request.context.query,
            filters=Filters(**dict(request.filters)),
            repeat_last=request.repeat_last_item,
            online=shopper.features,
            plan=self.placements[request.placement].plan(request.diversity),
            exposures=shopper.exposures,
            shown=request.page.shown if request.page else (),
        )

    def _known_key(self, user_id: str | None, visitor_id: str | None, manifest: Manifest) -> str | None:
        """By which key the model may know the shopper: none where it learned of what was erased since."""
        if not user_id and not visitor_id:
            return None
        key = shopper_key(user_id, visitor_id)
        erased_at = self._tombstones.erased_at(key)
        return None if erased_at is not None and erased_at >= manifest.training_end else key
