"""``freshet erase``: work off the erasures that the API acknowledged, in every store.

Each step finds its rows anew, so after a crash all of it is simply done again; the record of an erasure goes last.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from redis import Redis
from redis.exceptions import ResponseError

from feature_repo.archive import Archive
from feature_repo.arrays import Bool
from feature_repo.catalog import forget_users
from feature_repo.durable_file import drop_rows
from feature_repo.erasure import Erasure, PendingErasures, Store, covered, is_in
from feature_repo.errors import LogUnavailableError
from feature_repo.offline_store import SHOPPER_KEY, SNAPSHOT_SCHEMAS
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.schema import SECOND, Event
from feature_repo.settings import Settings
from serving.bundle_files import MANIFEST, forget_shoppers
from serving.embedded_redis import embedded_redis
from serving.live_version import current_version, remove_refreshed, set_current
from serving.served.served_log import Served
from training.locks import FOREVER, features_lock, refresh_lock, served_lock, training_lock
from training.log_report import QualityReport
from training.publish import models_lock, remove_unfinished
from training.training_run import EVENTS, WORK

_SETTLING_SECONDS: Final = 1.0
"""What a server does with a request that it had when the erasure came is done by then, but for the served log."""
_ABANDONED_SECONDS: Final = 60.0
"""No writer takes so long for one file."""
_PATIENCE_SECONDS: Final = 60.0
"""With Redis, per call: to write a long partition anew takes longer than a shopper would wait."""
_POLL_SECONDS: Final = 0.05
_REWRITE_SECONDS: Final = 600.0

logger = logging.getLogger(__name__)


def pending(settings: Settings) -> PendingErasures:
    """The erasures of a home that are not done."""
    return PendingErasures(settings.erasures_dir, Archive(settings.archive_dir).tombstones)


def erase(settings: Settings, patience: float = FOREVER) -> Counter[Store]:
    """Carry out what is pending; returns how much of each store was removed.

    Raises InputError when a training step, a refresh, or a merge of the served log runs for longer than
    ``patience`` seconds more, LogUnavailableError when Redis is away; what was not done stays pending.
    """
    erasures = pending(settings).all()
    removed: Counter[Store] = Counter()
    if not erasures:
        return removed
    _wait_until_settled(erasures, settings)
    with (
        training_lock(settings, patience),
        refresh_lock(settings, patience),
        features_lock(settings),
        served_lock(settings, patience),
        embedded_redis(settings) as url,
    ):
        # Once more: a server may have added visitors while this waited.
        settled = max(erasure.erased_at for erasure in erasures)
        erasures = [erasure for erasure in pending(settings).all() if erasure.erased_at <= settled]
        if not erasures:  # another has done it
            return removed
        archive = Archive(settings.archive_dir)
        known = [_with_archived_visitors(settings, erasure, archive) for erasure in erasures]
        for erasure in known:
            removed.update(asyncio.run(_erase_online(settings, url, erasure, archive)))
        for store, work in _ON_DISK.items():
            removed[store] += work(settings, known)
        _rewrite_append_only_file(url)
        for erasure in known:
            pending(settings).done(erasure)
    logger.info("erasures done: %d", len(known))
    return removed


def _wait_until_settled(erasures: Sequence[Erasure], settings: Settings) -> None:
    """Return when no server still holds a slate or an event of before."""
    newest = max(erasure.erased_at for erasure in erasures) / SECOND
    settled = newest + settings.served_log_flush_seconds + _SETTLING_SECONDS
    time.sleep(min(max(0.0, settled - time.time()), settled - newest))


def _with_archived_visitors(settings: Settings, erasure: Erasure, archive: Archive) -> Erasure:
    """The erasure of all visitors that the archive ties to its user; recorded, so that a crash forgets none."""
    if erasure.user_id:
        erasure = erasure.with_visitors(archive.visitors_of(erasure.user_id))
    pending(settings).put(erasure)
    return erasure


async def _erase_online(settings: Settings, url: str, erasure: Erasure, archive: Archive) -> Counter[Store]:
    patient = settings.model_copy(update={"redis_timeout_seconds": _PATIENCE_SECONDS})
    log = RedisEventLog.connect(url, patient)
    try:
        return Counter(await log.erase(erasure, archive.traces(erasure)))
    finally:
        await log.aclose()


def _archive(settings: Settings, erasures: Sequence[Erasure]) -> int:
    return Archive(settings.archive_dir).erase(erasures)


def _offline_features(settings: Settings, erasures: Sequence[Erasure]) -> int:
    """All rows of the shoppers: later ones may rest on what happened before, and are soon computed anew."""
    keys = _keys(erasures)
    views = [view for view, schema in SNAPSHOT_SCHEMAS.items() if SHOPPER_KEY in schema.names]
    files = (file for view in views for file in _parquet(settings.features_dir / view))
    return sum(drop_rows(file, [SHOPPER_KEY], lambda rows: is_in(rows[SHOPPER_KEY], keys)) for file in files)


def _catalog(settings: Settings, erasures: Sequence[Erasure]) -> int:
    return forget_users(settings.catalog_dir, [erasure.user_id for erasure in erasures if erasure.user_id])


def _served_log(settings: Settings, erasures: Sequence[Erasure]) -> int:
    return sum(
        drop_rows(file, [Served.USER, Served.VISITOR, Served.AS_OF], _covering(erasures, Served.AS_OF))
        for file in _parquet(settings.served_dir)
    )


def _import_rejects(settings: Settings, erasures: Sequence[Erasure]) -> int:
    """Rows that hold an id in any cell: what they mean, nobody knows."""
    ids = {an_id for erasure in erasures for an_id in (erasure.user_id, *erasure.visitor_ids) if an_id}

    def naming(rows: pa.Table) -> Bool:
        texts = [column for column in rows.columns if pa.types.is_string(column.type)]
        found: Bool = np.any([is_in(column, ids) for column in texts], axis=0)
        return found

    files = _parquet(settings.imports_dir)
    return sum(drop_rows(file, pq.ParquetFile(file).schema_arrow.names, naming) for file in files)


def _quality_reports(settings: Settings, erasures: Sequence[Erasure]) -> int:
    """Examples that name the shopper."""
    forgotten = 0
    for path in settings.quality_dir.glob("*.json"):
        report = QualityReport.read(path)
        cleared = report.without_examples_of(_keys(erasures))
        if cleared != report:
            cleared.write(settings.quality_dir)
            forgotten += 1
    return forgotten


def _training_inputs(settings: Settings, erasures: Sequence[Erasure]) -> int:
    columns = [Event.USER, Event.VISITOR, Event.TIMESTAMP]
    return sum(
        drop_rows(file, columns, _covering(erasures, Event.TIMESTAMP))
        for file in settings.runs_dir.glob(f"*/{WORK}/{EVENTS}")
    )


def _model_bundles(settings: Settings, erasures: Sequence[Erasure]) -> int:
    """Bundles at rest, twins and unfinished trainings too; servers look again at the live one.

    Refreshed bundles are soon made anew, so they go as they are.
    """
    models = settings.models_dir
    if not models.exists():
        return 0
    with models_lock(models):
        remove_unfinished(models)
        manifests = [*models.rglob(MANIFEST), *settings.runs_dir.glob(f"*/{WORK}/*/{MANIFEST}")]
        forgotten = sum(forget_shoppers(path.parent, _keys(erasures)) for path in manifests)
        remove_refreshed(models)
        live = current_version(models)
        if forgotten and live:
            set_current(models, live)
    return forgotten


_ON_DISK: Final[dict[Store, Callable[[Settings, Sequence[Erasure]], int]]] = {
    Store.ARCHIVE: _archive,
    Store.OFFLINE_FEATURES: _offline_features,
    Store.CATALOG: _catalog,
    Store.SERVED_LOG: _served_log,
    Store.IMPORT_REJECTS: _import_rejects,
    Store.QUALITY_REPORTS: _quality_reports,
    Store.TRAINING_INPUTS: _training_inputs,
    Store.MODEL_BUNDLES: _model_bundles,
}


def _rewrite_append_only_file(url: str) -> None:
    """Have Redis write its file anew: the old one holds every command that ever named the shopper."""
    with Redis.from_url(url) as redis:
        try:
            if not redis.info("persistence")["aof_enabled"]:
                return
            redis.bgrewriteaof()
        except ResponseError as error:
            logger.warning("Redis does not rewrite its append-only file (%s): do it by its own means", error)
            return
        deadline = time.monotonic() + _REWRITE_SECONDS
        while time.monotonic() < deadline:
            state = redis.info("persistence")
            if not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]:
                return
            time.sleep(_POLL_SECONDS)
    raise LogUnavailableError(
        f"Redis has not rewritten its append-only file within {_REWRITE_SECONDS:.0f} s: run `freshet erase` again"
    )


def _keys(erasures: Sequence[Erasure]) -> set[str]:
    return {key for erasure in erasures for key in erasure.shopper_keys}


def _covering(erasures: Sequence[Erasure], time_column: str) -> Callable[[pa.Table], Bool]:
    """Finds the rows that erasures cover, in a table with the user, the visitor and the time of each row."""

    def found(rows: pa.Table) -> Bool:
        times = rows[time_column].cast(pa.int64()).to_numpy()
        return covered(erasures, rows[Event.USER], rows[Event.VISITOR], times)

    return found


def _parquet(folder: Path) -> list[Path]:
    """Parquet files below a folder, whole ones; what killed writers have left there goes."""
    for leftover in folder.rglob(".*.parquet.tmp"):
        if time.time() - leftover.stat().st_mtime > _ABANDONED_SECONDS:
            leftover.unlink()
    return sorted(folder.rglob("[!.]*.parquet"))
