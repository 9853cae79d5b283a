"""Freshet's feature store: Feast over the offline store's files, a registry and Redis. Its import takes seconds."""

import logging
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import yaml
from feast import FeatureStore, RepoConfig
from filelock import FileLock

from feature_repo.errors import InputError
from feature_repo.feature_views import ITEM_WINDOWS_PUSH, SESSION_INPUTS, SESSION_VIEW, define, keep_states
from feature_repo.offline_store import (
    EVENT_TIMESTAMP,
    ITEM_KEY,
    ITEM_WINDOWS,
    SNAPSHOT_SCHEMAS,
    ensure_sources,
)
from feature_repo.online_store import connection_string
from feature_repo.session_features import SESSION_FEATURES
from feature_repo.settings import Settings

_FOLDER: Final = Path(__file__).parent
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

logging.getLogger("feast").setLevel(logging.WARNING)  # as on Feast's own command line


def open_store(settings: Settings, redis_url: str) -> FeatureStore:
    """The store of a FRESHET_HOME, its definitions registered; Redis is not called before it is read or written.

    Several processes may open it at once. Raises InputError for a Redis that Feast cannot reach.
    """
    home = settings.home.absolute()
    registry, features_dir = home / settings.registry_path.name, home / settings.features_dir.name
    config = yaml.safe_load((_FOLDER / "feature_store.yaml").read_text())
    config["registry"]["path"] = f"sqlite:///{registry}"
    config["online_store"]["connection_string"] = connection_string(redis_url)
    ensure_sources(features_dir)
    with FileLock(registry.with_suffix(".lock")):
        store = FeatureStore(config=RepoConfig(**config, repo_path=_FOLDER))
        definitions = define(features_dir)
        keep_states(definitions, store.list_feature_views())
        store.apply(list(definitions))  # leaves alone what has not changed
    return store


def historical_features(
    store: FeatureStore, entities: pd.DataFrame, views: Collection[str] = (*SNAPSHOT_SCHEMAS, SESSION_VIEW)
) -> pd.DataFrame:
    """``entities`` with the columns of each view as they stood at the row's own moment, in the order of the rows.

    entities: EVENT_TIMESTAMP (datetime64, UTC) and the keys or, for the session view, the inputs of the views;
    a view whose key no column holds is left out. NaN or None where nothing was known yet.
    Raises InputError when there is no EVENT_TIMESTAMP or no view fits.
    """
    names = _features(views, set(entities.columns))
    if EVENT_TIMESTAMP not in entities or not names:
        raise InputError(
            f"features of the past need a column {EVENT_TIMESTAMP} and a key, such as shopper_key or item_id, "
            f"not {sorted(entities.columns)}"
        )
    asked = entities.assign(
        **{EVENT_TIMESTAMP: entities[EVENT_TIMESTAMP].dt.as_unit("us"), _ROW: np.arange(len(entities))}
    )
    found = store.get_historical_features(entity_df=asked, features=names).to_df()
    return found.sort_values(_ROW).drop(columns=_ROW).set_index(entities.index)


def materialize(
    store: FeatureStore,
    start: int,
    end: int,
    views: Collection[str],
    shoppers: frozenset[str] | None = None,
) -> None:
    """Bring the newest rows from ``start`` to ``end`` (microseconds, both included) of views online.

    Of users, those whose keys are among ``shoppers``; None takes all.
    Doing so again, or with an older interval, leaves the rows as of the latest moment online.
    """
    store.config.online_store.shoppers = shoppers
    try:
        store.materialize(_moment(start), _moment(end), list(views))
    finally:
        store.config.online_store.shoppers = None


def push_item_windows(store: FeatureStore, counts: pd.DataFrame, as_of: int) -> None:
    """Write item windows as of a moment (microseconds) online only: columns ITEM_KEY and ITEM_WINDOWS, int64."""
    rows = counts[[ITEM_KEY, *ITEM_WINDOWS]].assign(**{EVENT_TIMESTAMP: _moment(as_of)})
    store.push(ITEM_WINDOWS_PUSH, rows)


_ROW: Final = "_row"


def _features(views: Collection[str], columns: set[str]) -> list[str]:
    """References of the features of those views whose key or inputs are among the columns."""
    features = [
        f"{view}:{name}"
        for view, (key, *names, _) in ((view, schema.names) for view, schema in SNAPSHOT_SCHEMAS.items())
        if view in views and key in columns
        for name in names
    ]
    if SESSION_VIEW in views and columns >= set(SESSION_INPUTS):
        features += [f"{SESSION_VIEW}:{name}" for name in SESSION_FEATURES]
    return features


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
