"""The model that answers: follows CURRENT, and changes over between two requests."""

import asyncio
import logging
from pathlib import Path

from feature_repo.errors import BundleError
from feature_repo.schema import SECOND, EventType
from feature_repo.session_window import WindowEvent
from serving.bundle import CURRENT, current_version, read_bundle
from serving.metrics import Metrics
from serving.query import Question
from serving.recommender import Recommender

logger = logging.getLogger(__name__)


class LiveModel:
    """The recommender of the version that ``models/CURRENT`` names, once ``refresh`` has seen it."""

    def __init__(self, models: Path, candidates: int, metrics: Metrics) -> None:
        self._models = models
        self._candidates = candidates
        self._metrics = metrics
        self._recommender: Recommender | None = None
        self._seen: tuple[int, int] | None = None

    @property
    def version(self) -> str | None:
        """Version that answers, None before the first."""
        return self._recommender.bundle.manifest.version if self._recommender else None

    @property
    def recommender(self) -> Recommender:
        """What answers right now; BundleError before the first model. A request takes it once and keeps it."""
        if self._recommender is None:
            raise BundleError("no model is published yet: run `freshet train` to make one")
        return self._recommender

    async def watch(self, seconds: float) -> None:
        """Refresh for ever, with a pause of so many seconds."""
        while True:
            await self.refresh()
            await asyncio.sleep(seconds)

    async def refresh(self) -> None:
        """Change over to the version that CURRENT names now, unless it is live or was refused already."""
        try:
            current = (self._models / CURRENT).stat()
            written = (current.st_mtime_ns, current.st_ino)
            if written == self._seen:
                return
            self._seen = written
            await self._change_to(current_version(self._models))
        except FileNotFoundError:
            return  # nothing was published so far
        except Exception as error:  # whatever a new bundle is like, the old one goes on
            self._metrics.bundle_failures.inc()
            logger.error("model bundle refused, %s stays: %s", self.version or "none", error)  # noqa: TRY400

    async def _change_to(self, version: str | None) -> None:
        if version is None or version == self.version:
            return
        loaded = await asyncio.to_thread(_load, self._models / version, self._candidates)
        self._recommender = loaded
        self._metrics.show_model(loaded.bundle.manifest)
        logger.info("model %s is live", version)


def _load(directory: Path, candidates: int) -> Recommender:
    """A recommender that has answered once, so the first shopper does not wait for lookups to be built."""
    recommender = Recommender(read_bundle(directory), candidates)
    bundle = recommender.bundle
    as_of = bundle.manifest.training_end
    events = [
        WindowEvent(as_of - SECOND, "warm-up", EventType.VIEW, item_id) for item_id in bundle.item_ids[:1]
    ]
    question = Question(events=events, shopper_key="warm-up", as_of=as_of, k=1)
    recommender.recommend([question.encode(bundle)])
    return recommender
