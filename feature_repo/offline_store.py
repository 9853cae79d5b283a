"""Batch features at rest: for each view and moment one Parquet file, which Feast reads through duckdb.

What the views are called and what columns they have is defined here, for whoever writes, registers or reads
them. Importing Feast takes seconds, so nothing here does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from feature_repo.batch_features import ITEM_STATISTICS, USER_STATISTICS
from feature_repo.durable_file import replace_file, to_parquet
from feature_repo.errors import InputError
from feature_repo.item_activity import ACTIVITY_COUNTS
from feature_repo.schema import Item, User

SHOPPER_KEY: Final = "shopper_key"
"""Join key of users: ``u:ID`` or ``v:ID``, as schema.shopper_key makes it."""
ITEM_KEY: Final = Item.ID
"""Join key of items."""
EVENT_TIMESTAMP: Final = "event_timestamp"
"""The moment as of which a row holds, timestamp[us, UTC]."""


class View:
    """Names of the feature views that rest in the offline store. See SNAPSHOT_SCHEMAS for their columns."""

    USER_STATISTICS = "user_statistics"
    USER_PROFILE = "user_profile"
    USER_EMBEDDING = "user_embedding"
    ITEM_STATISTICS = "item_statistics"
    ITEM_EMBEDDING = "item_embedding"
    ITEM_WINDOWS = "item_windows"


USER_EMBEDDING: Final = "user_embedding"
USER_EMBEDDING_VERSION: Final = "user_embedding_version"
ITEM_EMBEDDING: Final = "item_embedding"
ITEM_EMBEDDING_VERSION: Final = "item_embedding_version"
"""Vectors match only within one model version, so each carries the version that made it."""

ITEM_WINDOWS: Final = tuple(count.name for count in ACTIVITY_COUNTS)
"""Counts of the newest minutes, hour and day, which the stream pushes."""


def _schema(key: str, columns: Mapping[str, pa.DataType]) -> pa.Schema:
    stamp = pa.field(EVENT_TIMESTAMP, pa.timestamp("us", tz="UTC"), nullable=False)
    return pa.schema([pa.field(key, pa.string(), nullable=False), *columns.items(), stamp])


_VECTOR: Final = pa.list_(pa.float32())

SNAPSHOT_SCHEMAS: Final[Mapping[str, pa.Schema]] = {
    View.USER_STATISTICS: _schema(SHOPPER_KEY, dict.fromkeys(USER_STATISTICS, pa.float32())),
    View.USER_PROFILE: _schema(SHOPPER_KEY, {User.CONSENT: pa.bool_(), User.PROPERTIES: pa.string()}),
    View.USER_EMBEDDING: _schema(SHOPPER_KEY, {USER_EMBEDDING: _VECTOR, USER_EMBEDDING_VERSION: pa.string()}),
    View.ITEM_STATISTICS: _schema(ITEM_KEY, dict.fromkeys(ITEM_STATISTICS, pa.float32())),
    View.ITEM_EMBEDDING: _schema(ITEM_KEY, {ITEM_EMBEDDING: _VECTOR, ITEM_EMBEDDING_VERSION: pa.string()}),
    View.ITEM_WINDOWS: _schema(ITEM_KEY, dict.fromkeys(ITEM_WINDOWS, pa.int64())),
}
"""Columns of each view's files: its join key, its features, EVENT_TIMESTAMP."""


def write_snapshot(features_dir: Path, view: str, rows: pa.Table, as_of: int) -> Path:
    """Write a view's rows as of a moment (microseconds), whole or not at all; the same rows, the same bytes.

    ``rows`` has the columns of SNAPSHOT_SCHEMAS without EVENT_TIMESTAMP, in any order, and one row per key,
    in any order. A file of the same moment is replaced.
    Raises InputError when a column is missing, unknown or of another type, or a key is null or comes twice.
    """
    schema = SNAPSHOT_SCHEMAS[view]
    features = schema.remove(schema.get_field_index(EVENT_TIMESTAMP))
    key = features.names[0]
    _require_columns(view, rows.schema, features)
    rows = rows.select(features.names)
    _require_distinct(view, rows[key])
    stamp = pa.repeat(pa.scalar(as_of, schema.field(EVENT_TIMESTAMP).type), rows.num_rows)
    dated = rows.sort_by(key).append_column(schema.field(EVENT_TIMESTAMP), stamp).cast(schema)
    path = _folder(features_dir, view) / f"{as_of}.parquet"
    replace_file(path, to_parquet(dated))
    return path


def snapshots(features_dir: Path, view: str) -> list[int]:
    """Moments (microseconds) of which a view has a file, the oldest first."""
    return sorted(int(file.stem) for file in _folder(features_dir, view).glob("[0-9]*.parquet"))


def read_snapshot(features_dir: Path, view: str, as_of: int) -> pa.Table:
    """A view's rows as of a moment (microseconds) of which it has a file."""
    return pq.read_table(_folder(features_dir, view) / f"{as_of}.parquet")


def forget_before(features_dir: Path, moment: int) -> None:
    """Remove files older than ``moment`` (microseconds), but keep what holds at ``moment``: each view's newest."""
    for view in SNAPSHOT_SCHEMAS:
        older = [as_of for as_of in snapshots(features_dir, view) if as_of <= moment]
        for as_of in older[:-1]:
            (_folder(features_dir, view) / f"{as_of}.parquet").unlink()


def ensure_sources(features_dir: Path) -> None:
    """Give each view a file without rows, so that Feast finds a source where nothing was computed yet.

    Several processes may do so at once.
    """
    with FileLock(features_dir / ".sources.lock"):
        for view, schema in SNAPSHOT_SCHEMAS.items():
            path = _folder(features_dir, view) / "empty.parquet"
            if not path.exists():
                replace_file(path, to_parquet(schema.empty_table()))


def _folder(features_dir: Path, view: str) -> Path:
    return features_dir / view


def _require_columns(view: str, found: pa.Schema, wanted: pa.Schema) -> None:
    wrong = {
        "missing": [name for name in wanted.names if name not in found.names],
        "unknown": [name for name in found.names if name not in wanted.names],
        "twice": sorted({name for name in found.names if found.names.count(name) > 1}),
    }
    if any(wrong.values()):
        said = ", ".join(f"{what} {names}" for what, names in wrong.items() if names)
        raise InputError(
            f"columns for the feature view {view} do not fit: {said} (docs/features.md lists them)"
        )
    for field in wanted:
        if (kind := found.field(field.name).type) != field.type:
            raise InputError(
                f"for the feature view {view}, {field.name} is {kind}, not {field.type}: convert it"
            )


def _require_distinct(view: str, keys: pa.ChunkedArray) -> None:
    if keys.null_count:
        raise InputError(f"{keys.null_count} rows for the feature view {view} have no key: leave them out")
    if (distinct := pc.count_distinct(keys).as_py()) != len(keys):
        raise InputError(
            f"{len(keys) - distinct} rows for the feature view {view} repeat a key: give each key one row"
        )
