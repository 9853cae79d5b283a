"""What Feast knows of Freshet's features: entities, sources, views and the service of the ranking schema."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource, ValueType
from feast.data_format import ParquetFormat
from feast.on_demand_feature_view import OnDemandFeatureView, on_demand_feature_view
from feast.types import Array, Bool, FeastType, Float32, Int64, String

from feature_repo.offline_store import EVENT_TIMESTAMP, ITEM_KEY, SHOPPER_KEY, SNAPSHOT_SCHEMAS, View
from feature_repo.session_features import SESSION_FEATURES

OWNER: Final = "shop"

ITEM_WINDOWS_PUSH: Final = "item_windows_push"
"""The push source by which item windows are written online."""

SESSION_VIEW: Final = "session_features"

SESSION_INPUTS: Final[dict[str, FeastType]] = {
    "window_item_ids": Array(String),
    "window_event_types": Array(String),
    "window_times": Array(Int64),
    "as_of": Int64,
}
"""What a request brings for the session view: a window, oldest event first, and a moment, in microseconds.
An event without an item has an empty item id."""

_FEAST_TYPES: Final[dict[pa.DataType, FeastType]] = {
    pa.string(): String,
    pa.bool_(): Bool,
    pa.int64(): Int64,
    pa.float32(): Float32,
    pa.list_(pa.float32()): Array(Float32),
}


class Definitions(NamedTuple):
    """Every object of the registry, those that others refer to first."""

    user: Entity
    item: Entity
    user_statistics: FeatureView
    user_profile: FeatureView
    user_embedding: FeatureView
    item_statistics: FeatureView
    item_embedding: FeatureView
    item_windows: FeatureView
    session_features: OnDemandFeatureView
    ranking_v1: FeatureService


def define(features_dir: Path) -> Definitions:
    """The objects to register for the offline store at ``features_dir``, an absolute path."""
    user = _entity("user", SHOPPER_KEY, "A shopper: u: and a user's id, or v: and a visitor's")
    item = _entity("item", ITEM_KEY, "A product of the shop")

    def batch_view(name: str, entity: Entity, description: str) -> FeatureView:
        return _view(name, entity, _source(features_dir, name), description, computed="batch")

    pushed_windows = PushSource(
        name=ITEM_WINDOWS_PUSH,
        batch_source=_source(features_dir, View.ITEM_WINDOWS),
        description="Counts of the items that were met since the last push",
        owner=OWNER,
    )
    views = (
        batch_view(View.USER_STATISTICS, user, "How much, how keenly and at what prices a shopper buys"),
        batch_view(View.USER_PROFILE, user, "What the shop's user file says of a user"),
        batch_view(View.USER_EMBEDDING, user, "A shopper's long-term taste, as one model sees it"),
        batch_view(View.ITEM_STATISTICS, item, "How much and with what success an item is shown and met"),
        batch_view(View.ITEM_EMBEDDING, item, "An item's place among the items, as one model sees it"),
        _view(
            View.ITEM_WINDOWS, item, pushed_windows, "Counts of the newest hour and day", computed="stream"
        ),
    )
    ranking_v1 = FeatureService(
        name="ranking_v1",
        features=[*views, session_features],
        description="Every feature view behind the ranker's columns, schema ranking_v1",
        tags={"schema": "ranking_v1"},
        owner=OWNER,
    )
    return Definitions(user, item, *views, session_features, ranking_v1)


def keep_states(definitions: Definitions, registered: Iterable[FeatureView]) -> None:
    """Give the views the state and the intervals that Feast noted of the registered ones as it materialized them.

    To Feast a view without them has changed, and to apply it would forget the state.
    """
    for known in registered:
        if view := getattr(definitions, known.name, None):
            view.materialization_intervals, view.state = known.materialization_intervals, known.state


@on_demand_feature_view(  # type: ignore[untyped-decorator]
    sources=[
        RequestSource(
            name="session_window",
            schema=[Field(name=name, dtype=dtype) for name, dtype in SESSION_INPUTS.items()],
            description="A shopper's newest events, as the request finds them",
            owner=OWNER,
        )
    ],
    schema=[Field(name=name, dtype=Float32) for name in SESSION_FEATURES],
    mode="python",
    description="What a shopper did in the session that is going on",
    tags={"computed": "request"},
    owner=OWNER,
)
def session_features(inputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Run the one function of session features over rows of windows; events of unknown type are left out."""
    # Feast runs this text again in other processes, without this module's names: it brings its own.
    import numpy as np

    from feature_repo.schema import EVENT_CODES
    from feature_repo.session_features import SESSION_FEATURES, encode_window, session_features
    from feature_repo.session_window import WindowEvent

    table = np.empty((len(inputs["as_of"]), len(SESSION_FEATURES)), np.float32)
    columns = (inputs[name] for name in ("window_item_ids", "window_event_types", "window_times", "as_of"))
    for row, (item_ids, types, times, as_of) in enumerate(zip(*columns, strict=True)):
        index = {item_id: code for code, item_id in enumerate(dict.fromkeys(item_ids)) if item_id}
        events = [
            WindowEvent(time, "", event_type, item_id)
            for item_id, event_type, time in zip(item_ids, types, times, strict=True)
            if event_type in EVENT_CODES
        ]
        table[row] = session_features(encode_window(events, index), as_of)
    return {name: list(column) for name, column in zip(SESSION_FEATURES, table.T, strict=True)}


def _entity(name: str, key: str, description: str) -> Entity:
    return Entity(
        name=name,
        join_keys=[key],
        value_type=ValueType.STRING,
        description=description,
        tags={"key": key},
        owner=OWNER,
    )


def _source(features_dir: Path, view: str) -> FileSource:
    return FileSource(
        name=f"{view}_files",
        path=str(features_dir / view),
        file_format=ParquetFormat(),
        timestamp_field=EVENT_TIMESTAMP,
        description="A Parquet file for each moment as of which the view was computed",
        owner=OWNER,
    )


def _view(
    name: str, entity: Entity, source: FileSource | PushSource, description: str, *, computed: str
) -> FeatureView:
    columns = [field for field in SNAPSHOT_SCHEMAS[name] if field.name != EVENT_TIMESTAMP]
    return FeatureView(
        name=name,
        entities=[entity],
        schema=[Field(name=column.name, dtype=_FEAST_TYPES[column.type]) for column in columns],
        source=source,
        ttl=timedelta(0),  # a row holds until a newer one comes
        description=description,
        tags={"computed": computed},
        owner=OWNER,
    )
