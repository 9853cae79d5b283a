"""The catalog: the shop's items and users, each one Parquet file with a row per id."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from feature_repo.durable_file import drop_rows, replace_file, to_parquet
from feature_repo.erasure import is_in
from feature_repo.schema import ITEM_SCHEMA, USER_SCHEMA, Item, User

_ITEMS: Final = "items.parquet"
_USERS: Final = "users.parquet"
_GROUP_ROWS: Final = 1000
"""So few that one row is quickly found."""


def read_items(folder: Path) -> pa.Table:
    """Items of ITEM_SCHEMA sorted by item_id; empty when the shop has no catalog."""
    return _read(folder / _ITEMS, ITEM_SCHEMA)


def read_users(folder: Path) -> pa.Table:
    """Users of USER_SCHEMA sorted by user_id; empty when the shop gave none."""
    return _read(folder / _USERS, USER_SCHEMA)


def find_item(folder: Path, item_id: str) -> dict[str, Any] | None:
    """The item's row, None where there is none. Of the file, one group of rows is read."""
    path = folder / _ITEMS
    rows = pq.read_table(path, filters=[(Item.ID, "==", item_id)]).to_pylist() if path.exists() else []
    return rows[0] if rows else None


def upsert_items(folder: Path, items: pa.Table) -> None:
    """Add items, a table of ITEM_SCHEMA, or replace those of the same id; of one id the last row stays."""
    change_items(folder, lambda _: items)


def change_items(folder: Path, changed: Callable[[pa.Table], pa.Table]) -> int:
    """Add or replace the items that ``changed`` makes of all that there are; returns how many.

    Tables are of ITEM_SCHEMA. Nobody else writes between the reading and the writing.
    """
    return _change(folder / _ITEMS, ITEM_SCHEMA, Item.ID, changed)


def upsert_users(folder: Path, users: pa.Table) -> None:
    """Add users, a table of USER_SCHEMA, or replace those of the same id; of one id the last row stays."""
    _change(folder / _USERS, USER_SCHEMA, User.ID, lambda _: users)


def forget_users(folder: Path, user_ids: Collection[str]) -> int:
    """Remove users; returns how many there were."""
    path = folder / _USERS
    if not path.exists():
        return 0
    with _lock_of(path):
        return drop_rows(path, [User.ID], lambda rows: is_in(rows[User.ID], user_ids))


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    return pq.ParquetFile(path).read() if path.exists() else schema.empty_table()


def _change(path: Path, schema: pa.Schema, key: str, changed: Callable[[pa.Table], pa.Table]) -> int:
    with _lock_of(path):
        before = _read(path, schema)
        rows = changed(before).cast(schema)
        if rows.num_rows:
            everything = pa.concat_tables([before, rows])
            ids = everything[key].to_numpy()
            _, newest_from_behind = np.unique(ids[::-1], return_index=True)
            newest = everything.take(pa.array(len(ids) - 1 - newest_from_behind, pa.int64()))
            replace_file(path, to_parquet(newest.take(pc.sort_indices(newest[key])), _GROUP_ROWS))
    return int(rows.num_rows)


def _lock_of(path: Path) -> FileLock:
    return FileLock(path.with_name(f".{path.name}.lock"))
