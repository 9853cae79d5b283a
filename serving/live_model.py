"""The model that answers: follows CURRENT and REFRESHED, and changes over between two requests."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

from feature_repo.durable_file import written
from feature_repo.errors import BundleError
from feature_repo.schema import SECOND, EventType
from feature_repo.session_window import WindowEvent
from serving.bundle import Bundle
from serving.bundle_files import read_bundle
from serving.live_catalog import LiveCatalog
from serving.live_version import CURRENT, REFRESHED, live_directories, place_of
from serving.metrics import Metrics
from serving.query import Question
from serving.recommender import Recommender
from serving.served.state_journal import StateJournal

logger = logging.getLogger(__name__)


class LiveModel:
    """The recommender of the bundle that is live under ``models``, once ``look`` has seen it."""

    def __init__(self, models: Path, candidates: int, catalog: LiveCatalog, metrics: Metrics) -> None:
        self._models = models
        self._candidates = candidates
        self._catalog = catalog
        self._metrics = metrics
        self._recommender: Recommender | None = None
        self._directory: Path | None = None
        self._seen: list[tuple[int, int] | None] = []

    @property
    def version(self) -> str | None:
        """Version that answers, None before the first."""
        return self._recommender.bundle.manifest.version if self._recommender else None

    @property
    def journal(self) -> StateJournal:
        """Where what lies over its bundles is written down."""
        return self._catalog.journal

    @property
    def recommender(self) -> Recommender:
        """What answers right now; BundleError before the first model. A request takes it once and keeps it."""
        if self._recommender is None:
            raise BundleError("no model is published yet: run `freshet train` to make one")
        return self._recommender

    async def look(self) -> None:
        """Change over to the bundle that is live now, unless it answers already or was refused already.

        In place of a refreshed bundle that is refused the trained one of the version answers.
        """
        try:
            for directory in self._newly_live():
                if await self._changed_to(directory):
                    return
        except Exception as error:  # not even names that cannot be read stop a server that answers
            self._refuse(error)

    def _newly_live(self) -> list[Path]:
        """Where the live model stands, if that was not looked at yet."""
        seen = [written(self._models / name) for name in (CURRENT, REFRESHED)]
        if seen == self._seen:
            return []
        self._seen = seen
        return live_directories(self._models)

    async def _changed_to(self, directory: Path) -> bool:
        """True when this bundle answers from now on; whatever is wrong with it, the old one goes on."""
        if directory == self._directory:
            return True
        try:
            read = await asyncio.to_thread(read_bundle, directory)
            laid = await self._catalog.lay_over(replace(read, place=place_of(self._models, directory)))
            loaded = await asyncio.to_thread(self._warmed, laid.bundle)
            await self._catalog.follow(laid)  # the last, since the bundle that answers is followed no more
        except Exception as error:
            self._refuse(error)
            return False
        self._recommender, self._directory = loaded, directory
        self._metrics.show_model(loaded.bundle.manifest)
        logger.info("model %s is live", directory.name)
        return True

    def _warmed(self, bundle: Bundle) -> Recommender:
        """What has answered once, so the first shopper does not wait for lookups to be built."""
        recommender, as_of = Recommender(bundle, self._candidates), bundle.manifest.training_end
        events = [
            WindowEvent(as_of - SECOND, "warm-up", EventType.VIEW, item_id) for item_id in bundle.item_ids[:1]
        ]
        question = Question(events=events, shopper_key="warm-up", as_of=as_of, k=1)
        recommender.recommend([question.encode(bundle)])
        return recommender

    def _refuse(self, error: Exception) -> None:
        self._metrics.bundle_failures.inc()
        logger.error("model bundle refused, %s stays: %s", self.version or "none", error)
