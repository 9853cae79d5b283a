"""What the API does, free of HTTP: take events, forget shoppers, change and look up items."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import orjson

from feature_repo.catalog import find_item
from feature_repo.catalog_changes import CatalogChange
from feature_repo.erasure import ON_DISK, ONLINE, Erasure, PendingErasures
from feature_repo.errors import LogUnavailableError
from feature_repo.event_log import EventLog, Verdict
from feature_repo.schema import SECOND, Item
from feature_repo.settings import Settings
from feature_repo.tombstones import Tombstones
from serving.hydration import answers
from serving.ingestion import to_log
from serving.live_catalog import LiveCatalog
from serving.live_model import LiveModel
from serving.load_shedding import LoadShedding
from serving.metrics import Metrics
from serving.received import ReceivedEvent
from serving.replays.replay import Replays
from serving.replies import CatalogItem, ChangedItems, ErasureResult, EventResult, EventResults, Readiness
from serving.served.state_journal import CATALOG, StateJournal
from serving.slates import Slates

logger = logging.getLogger(__name__)


class Service:
    """The online side of one shop, in one event loop."""

    def __init__(self, settings: Settings, log: EventLog) -> None:
        self.settings = settings
        self.log = log
        self.metrics = Metrics()
        journal = StateJournal(settings.replay_dir / CATALOG)
        self.catalog = LiveCatalog(log.catalog, settings.catalog_dir, journal)
        self.model = LiveModel(settings.models_dir, settings.candidates, self.catalog, self.metrics)
        self.load_shedding = LoadShedding(log)
        self._tombstones = Tombstones(settings.archive_dir)
        self._erasures = PendingErasures(settings.erasures_dir, self._tombstones)
        self.slates = Slates(settings, log, self.model, self._tombstones, self.metrics)
        self.replays = Replays(settings, self._tombstones)

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
            self.slates.log_state.note(away=True)
            raise
        self.slates.log_state.note(away=False)
        verdicts = [Verdict.ERASED if dropped else next(appended) for dropped in erased]
        self.metrics.count_events(events, verdicts)
        return EventResults(
            [EventResult(event.event_id, verdict) for event, verdict in zip(events, verdicts, strict=True)]
        )

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

    async def item(self, item_id: str) -> CatalogItem | None:
        """The row of an item that the live model knows. Raises BundleError before the first model is published."""
        bundle = self.model.recommender.bundle
        index = bundle.item_index.get(item_id)
        if index is None:
            return None
        row = await asyncio.to_thread(find_item, self.settings.catalog_dir, item_id)
        if row is None:
            [row] = bundle.catalog.slice(index, 1).to_pylist()
        row = {**row, **self.catalog.changed(item_id)}
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


def _now() -> int:
    return time.time_ns() // 1000
