"""Batch features as of a moment: computed from the log before it, kept in the offline store, brought online."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.archive import Archive
from feature_repo.arrays import Float32, Strings
from feature_repo.batch_features import ITEM_STATISTICS, USER_STATISTICS, item_statistics, user_statistics
from feature_repo.catalog import read_users
from feature_repo.encoded_log import EncodedLog, encode_log, resolve_shoppers
from feature_repo.errors import InputError
from feature_repo.offline_store import (
    ITEM_EMBEDDING,
    ITEM_EMBEDDING_VERSION,
    ITEM_KEY,
    ITEM_WINDOWS,
    SHOPPER_KEY,
    SNAPSHOT_SCHEMAS,
    USER_EMBEDDING,
    USER_EMBEDDING_VERSION,
    View,
    read_snapshot,
    snapshots,
    write_snapshot,
)
from feature_repo.schema import Event, User, shopper_key
from feature_repo.settings import Settings
from serving.bundle import Bundle
from serving.embedded_redis import embedded_redis
from serving.live_version import current_version, read_live_bundle
from training.assemble import Shop, item_prices, user_embeddings
from training.dataset import encode, read_inputs
from training.feature_retention import forget_features
from training.locks import features_lock
from training.past_activity import PastActivity
from training.replay import window_ttl


def build_features(settings: Settings, as_of: int) -> dict[str, int]:
    """Write every view's rows as of a moment (microseconds) to the offline store; returns rows by view.

    The same log gives the same files, whenever this runs. Embeddings are those of the live model, where there is
    one. What is older than the settings keep is forgotten. Raises InputError when nothing happened before.
    """
    with features_lock(settings):
        events, items = read_inputs(settings, before=as_of)
        if not events.num_rows:
            raise InputError(
                f"{settings.archive_dir} holds no event before {as_of} us: `freshet import` brings in a log"
            )
        shop, log = encode(events, items)
        tables = {
            View.USER_STATISTICS: user_rows(shop, log, as_of),
            View.USER_PROFILE: _profile_rows(settings),
            View.ITEM_STATISTICS: _item_rows(shop, log, as_of),
            View.ITEM_WINDOWS: _window_rows(log, as_of),
        }
        if current_version(settings.models_dir) is not None:
            tables |= embedding_rows(read_live_bundle(settings.models_dir), events)
        rows = _write(settings, tables, as_of)
        forget_features(settings, as_of)
    return rows


def bring_online(settings: Settings, as_of: int, views: Iterable[str] = SNAPSHOT_SCHEMAS) -> None:
    """Write what was built as of a moment (microseconds) of views to Redis; what is of a later moment stays.

    Of users, only those who were met so shortly before that their windows may live: the others' features are in
    the model, and Redis would fill with everybody who ever came.
    """
    from feature_repo.feature_store import materialize, open_store, push_item_windows

    folder = settings.features_dir
    built = [view for view in views if as_of in snapshots(folder, view)]
    with features_lock(settings), embedded_redis(settings) as url:
        store = open_store(settings, url)
        batch = [view for view in built if view != View.ITEM_WINDOWS]
        materialize(store, as_of, as_of, batch, met_before(settings, as_of))
        if View.ITEM_WINDOWS in built:
            push_item_windows(store, _changed_windows(folder, as_of), as_of)


def met_before(settings: Settings, as_of: int) -> frozenset[str]:
    """Keys of the shoppers with an event in the life of a window before a moment (microseconds)."""
    start = as_of - window_ttl(settings)
    events = Archive(settings.archive_dir).read(
        end=as_of, columns=[Event.USER, Event.VISITOR, Event.TIMESTAMP]
    )
    met = pc.greater_equal(events[Event.TIMESTAMP].cast(pa.int64()), start)
    linking = pc.and_(pc.is_valid(events[Event.USER]), pc.is_valid(events[Event.VISITOR]))
    telling = pc.or_(met, linking)
    keys, _ = resolve_shoppers(events.filter(telling))
    return frozenset(keys[met.filter(telling).to_numpy()])


def bring_vectors_online(settings: Settings, as_of: int) -> dict[str, int]:
    """Compute the live model's vectors from the events before a moment and bring them online; rows by view."""
    with features_lock(settings):
        events, _ = read_inputs(settings, before=as_of)
        tables = embedding_rows(read_live_bundle(settings.models_dir), events)
        rows = _write(settings, tables, as_of)
    bring_online(settings, as_of, tables)
    return rows


def _write(settings: Settings, tables: Mapping[str, pa.Table], as_of: int) -> dict[str, int]:
    for view, rows in tables.items():
        write_snapshot(settings.features_dir, view, rows, as_of)
    return {view: rows.num_rows for view, rows in tables.items()}


def _changed_windows(features_dir: Path, as_of: int) -> pd.DataFrame:
    """Counts of the items met in the newest day, and none for those that only the build before had counted."""
    rows = read_snapshot(features_dir, View.ITEM_WINDOWS, as_of).to_pandas()
    counts = rows.set_index(ITEM_KEY)[list(ITEM_WINDOWS)]
    for earlier in [moment for moment in snapshots(features_dir, View.ITEM_WINDOWS) if moment < as_of][-1:]:
        before = read_snapshot(features_dir, View.ITEM_WINDOWS, earlier)[ITEM_KEY].to_pandas()
        counts = counts.reindex(counts.index.union(before), fill_value=0)
    return counts.rename_axis(ITEM_KEY).reset_index()


def user_rows(shop: Shop, log: EncodedLog, as_of: int) -> pa.Table:
    """Rows of ``user_statistics`` for every shopper with an interaction before ``as_of`` (microseconds)."""
    statistics = user_statistics(log, as_of, item_prices(log.before(as_of), shop)[0])
    known = ~np.isnan(statistics).all(axis=1)
    return _table(SHOPPER_KEY, log.shopper_keys[known], USER_STATISTICS, statistics[known])


def embedding_rows(bundle: Bundle, events: pa.Table) -> dict[str, pa.Table]:
    """Rows of ``user_embedding`` for the shoppers of ``events``, and of ``item_embedding``, by a model's tower."""
    active = encode_log(events, bundle.item_ids).interactions()
    known = np.bincount(active.shopper, minlength=len(active.shopper_keys)) > 0
    users, items = user_embeddings(active, bundle.tower)[known], bundle.tower.embeddings
    version = pa.scalar(bundle.manifest.version)
    return {
        View.USER_EMBEDDING: pa.table(
            {
                SHOPPER_KEY: pa.array(active.shopper_keys[known], pa.string()),
                USER_EMBEDDING: _lists(users),
                USER_EMBEDDING_VERSION: pa.repeat(version, len(users)),
            }
        ),
        View.ITEM_EMBEDDING: pa.table(
            {
                ITEM_KEY: pa.array(bundle.item_ids, pa.string()),
                ITEM_EMBEDDING: _lists(items),
                ITEM_EMBEDDING_VERSION: pa.repeat(version, len(items)),
            }
        ),
    }


def _profile_rows(settings: Settings) -> pa.Table:
    users = read_users(settings.catalog_dir)
    keys = pa.array([shopper_key(user, None) for user in users[User.ID].to_pylist()], pa.string())
    return pa.table({SHOPPER_KEY: keys, **{name: users[name] for name in (User.CONSENT, User.PROPERTIES)}})


def _item_rows(shop: Shop, log: EncodedLog, as_of: int) -> pa.Table:
    return _table(ITEM_KEY, shop.item_ids, ITEM_STATISTICS, item_statistics(log, as_of))


def _window_rows(log: EncodedLog, as_of: int) -> pa.Table:
    """Counts of the newest minutes, hour and day, for the items that something happened to in that day."""
    items = np.arange(len(log.item_ids), dtype=np.int32)
    counts, _ = PastActivity.of(log).at(as_of, items, items.size).counts(items)
    met = counts.any(axis=1)
    columns = dict(zip(ITEM_WINDOWS, counts[met].T.astype(np.int64), strict=True))
    return pa.table({ITEM_KEY: pa.array(log.item_ids[met], pa.string()), **columns})


def _table(key: str, keys: Strings, names: Sequence[str], columns: Float32) -> pa.Table:
    values = {name: pa.array(columns[:, place]) for place, name in enumerate(names)}
    return pa.table({key: pa.array(keys, pa.string()), **values})


def _lists(vectors: Float32) -> pa.Array:
    rows, width = vectors.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * width, pa.int32()), vectors.ravel())
