"""``freshet stream``: all groups of consumers in one process, and what is done beside them, until told to stop."""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from feature_repo.errors import FreshetError, LogUnavailableError
from feature_repo.event_log import EventLog
from feature_repo.log_reader import LogReader
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.settings import Settings
from serving.embedded_redis import embedded_redis
from training.erase import erase
from training.ingest import BATCH
from training.retention import forget_served
from training.served_merge import merge_next
from training.stream.activity_board import ActivityBoard
from training.stream.catalog_file import CatalogFile
from training.stream.consumer import Consumer, Group
from training.stream.groups import groups
from training.stream.metrics import StreamMetrics, serving_metrics
from training.stream.online_windows import OnlineWindows
from training.stream.refreshing import refresh_now_and_then
from training.stream.stopping import rest

RETRY_SECONDS: Final = 1.0
"""Pause before the next try when the log is away or the disk full."""
JOIN_RETRY_SECONDS: Final = 5.0
PUBLISH_SECONDS: Final = 1.0
"""Pause between two messages about the items' activity."""
PUSH_SECONDS: Final = 60.0
"""Pause between two pushes to Feast."""
CATALOG_SECONDS: Final = 2.0
"""Pause between two writes of the catalog."""
HOUSEKEEPING_SECONDS: Final = 60.0
"""Pause between two looks for erasures, and for what is to be forgotten or merged."""
OBSERVE_SECONDS: Final = 5.0
"""Pause between two looks at how far the groups are behind."""

logger = logging.getLogger(__name__)


def stream(settings: Settings) -> None:
    """Consume until SIGINT or SIGTERM; what is under way is finished first."""
    with embedded_redis(settings) as url:
        asyncio.run(_stream(settings, url))


async def _stream(settings: Settings, url: str) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopping.set)
    log = RedisEventLog.connect(url, settings)
    me = f"{socket.gethostname()}-{os.getpid()}"
    metrics, board = StreamMetrics(), ActivityBoard(log)
    members = groups(settings)
    readers = [log.reader(group.name, me) for group in members]
    with serving_metrics(metrics, settings):
        try:
            await _join(readers, stopping)
            async with asyncio.TaskGroup() as tasks:
                for group, reader in zip(members, readers, strict=True):
                    tasks.create_task(_consume(group, reader, settings, metrics, stopping))
                tasks.create_task(_publish(board, log, stopping))
                tasks.create_task(_push(board, OnlineWindows(settings, url), stopping))
                tasks.create_task(_write_catalog(CatalogFile(log.catalog, settings.catalog_dir), stopping))
                tasks.create_task(_keep_house(settings, stopping))
                tasks.create_task(refresh_now_and_then(settings, stopping))
                tasks.create_task(_observe(metrics, readers, stopping))
        finally:
            await log.aclose()


async def _join(readers: Sequence[LogReader], stopping: asyncio.Event) -> None:
    """Make all groups known before the first of them reads and trims; a log that is away is waited for."""
    while not stopping.is_set():
        try:
            for reader in readers:
                await reader.join()
        except LogUnavailableError as error:
            logger.warning("waiting to begin: %s", error)
            await rest(stopping, JOIN_RETRY_SECONDS)
        else:
            return


async def _consume(
    group: Group, reader: LogReader, settings: Settings, metrics: StreamMetrics, stopping: asyncio.Event
) -> None:
    """Rounds of one group. A log that is away, or a full disk, is waited for."""
    consumer = Consumer(group, reader, batch_size=BATCH, patience=settings.deliveries_before_burial)
    looked_for_dead = 0.0
    is_away = False
    while not stopping.is_set():
        try:
            if time.monotonic() - looked_for_dead > settings.consumer_idle_seconds / 2:
                taken_over = await consumer.take_over(settings.consumer_idle_seconds)
                metrics.count_taken_over(group.name, taken_over)
                looked_for_dead = time.monotonic()
            done, more = await consumer.round()
        except (LogUnavailableError, OSError) as error:
            if not is_away:
                logger.warning("%s waits: %s", group.name, error)
            is_away = True
            await rest(stopping, RETRY_SECONDS)
            continue
        if is_away:
            logger.warning("%s goes on", group.name)
        is_away = False
        metrics.count_done(group.name, done)
        if not more:
            await rest(stopping, group.rest_seconds)


async def _publish(board: ActivityBoard, log: EventLog, stopping: asyncio.Event) -> None:
    """Tell every server what happens to the items; while the log is away, or full, they know it no longer."""
    while not stopping.is_set():
        with suppress(LogUnavailableError):
            now = _now()
            await board.look(now)
            activity = await asyncio.to_thread(board.activity, now)
            await log.publish_activity(activity.to_bytes())
        await rest(stopping, PUBLISH_SECONDS)


async def _push(board: ActivityBoard, online: OnlineWindows, stopping: asyncio.Event) -> None:
    """Tell Feast's online store what happens to the items."""
    await rest(stopping, PUSH_SECONDS)
    while not stopping.is_set():
        try:
            activity = await asyncio.to_thread(board.activity, _now())
            await asyncio.to_thread(online.push, activity)
        except Exception as error:  # whatever Feast is like, events are consumed
            logger.info("item windows wait: %s", error)
        await rest(stopping, PUSH_SECONDS)


async def _write_catalog(catalog: CatalogFile, stopping: asyncio.Event) -> None:
    """Write changes of the catalog; while the log is away or the disk full, they wait."""
    while not stopping.is_set():
        try:
            await catalog.write()
        except (LogUnavailableError, OSError) as error:
            logger.info("the catalog waits: %s", error)
        await rest(stopping, CATALOG_SECONDS)


async def _keep_house(settings: Settings, stopping: asyncio.Event) -> None:
    """Carry out erasures soon after they were acknowledged; forget what was served long ago, and merge its files.

    A training, or a log that is away, is waited for. One folder is merged at a time: erasures come before the next.
    """
    given_up = set[Path]()
    while not stopping.is_set():
        try:
            await asyncio.to_thread(erase, settings, patience=0)
        except (FreshetError, OSError) as error:
            logger.info("erasures wait: %s", error)
        try:
            await asyncio.to_thread(forget_served, settings)
            await asyncio.to_thread(merge_next, settings, given_up, stopping.is_set)
        except OSError as error:
            logger.info("what was served waits: %s", error)
        await rest(stopping, HOUSEKEEPING_SECONDS)


async def _observe(metrics: StreamMetrics, readers: Sequence[LogReader], stopping: asyncio.Event) -> None:
    """Look at lag and dead letters now and then."""
    while not stopping.is_set():
        with suppress(LogUnavailableError):
            for reader in readers:
                await metrics.observe(reader)
        await rest(stopping, OBSERVE_SECONDS)


def _now() -> int:
    return time.time_ns() // 1000
