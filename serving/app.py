"""The ASGI application: the service behind its endpoints."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from feature_repo.event_log import EventLog
from feature_repo.settings import Settings
from serving.access.admission import Admission, DocumentedApi
from serving.access.live_keys import KEYS_SECONDS, LiveKeys
from serving.access.work_limit import WorkLimit
from serving.body_limit import BodyLimit
from serving.error_replies import add_error_replies
from serving.item_routes import create_item_router
from serving.metrics import TimedRequests
from serving.replays.replay_routes import create_replay_router
from serving.routes import create_router
from serving.service import Service

LOG_SECONDS: Final = 1.0
"""Pause between two looks at what the event log tells of all shoppers, and at how full it is."""
CATALOG_SECONDS: Final = 0.25
"""Pause between two looks at what changed in the catalog: it acts within a second."""
PAGE_METHODS: Final = ("GET", "POST")
"""What pages of other origins may do. Changing the catalog and erasing is for backends."""
_AGAIN_SECONDS: Final = 0.1

logger = logging.getLogger(__name__)


def create_app(settings: Settings, log: EventLog) -> FastAPI:
    """The API over an event log, which the app closes when it ends."""
    service = Service(settings, log)
    keys = LiveKeys(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with service.slates.running():
            await service.model.look()
            watchers = {
                asyncio.create_task(_watch(look, seconds))
                for look, seconds in (
                    (keys.look, KEYS_SECONDS),
                    (service.model.look, settings.bundle_poll_seconds),
                    (service.catalog.look, CATALOG_SECONDS),
                    (service.slates.activity.look, LOG_SECONDS),
                    (service.load_shedding.look, LOG_SECONDS),
                )
            }
            try:
                yield
            finally:
                await _end(watchers)
                await log.aclose()

    app = DocumentedApi(title="Freshet", summary="Recommendations that follow the click.", lifespan=lifespan)
    app.state.service = service
    app.include_router(create_router(service))
    app.include_router(create_item_router(service))
    app.include_router(create_replay_router(service))
    work = WorkLimit(settings.max_concurrent_requests, service.metrics)
    Admission(keys, work, service.metrics).guard(app.routes)
    add_error_replies(app)
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=PAGE_METHODS,
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
        )
    app.add_middleware(TimedRequests, metrics=service.metrics)
    return app


async def _watch(look: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Look for ever, with a pause of so many seconds; what fails is said once, and tried again."""
    failed = False
    while True:
        try:
            await look()
            failed = False
        except Exception:
            if not failed:
                logger.exception("%s failed; it is tried every %g s", look.__qualname__, seconds)
            failed = True
        await asyncio.sleep(seconds)


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks until they are done: once may not do.

    Python 3.11's ``asyncio.wait_for``, by which the Redis client sends, forgets a cancellation that comes just as
    what it waits for is done (bpo-37658).
    """
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=_AGAIN_SECONDS)
