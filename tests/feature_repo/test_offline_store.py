from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.errors import InputError
from feature_repo.offline_store import (
    EVENT_TIMESTAMP,
    ITEM_KEY,
    SNAPSHOT_SCHEMAS,
    View,
    ensure_sources,
    forget_before,
    snapshots,
    write_snapshot,
)
from feature_repo.schema import DAY

NOON = 1_750_000_000_000_000
ROWS = pa.table(
    {
        ITEM_KEY: ["mug", "lamp", "pot"],
        "item_interactions_5m": [0, 0, 1],
        "item_interactions_1h": [1, 2, 3],
        "item_interactions_24h": [4, 5, 6],
        "item_carts_24h": [0, 2, 1],
        "item_purchases_24h": [0, 1, 0],
        "item_clicks_24h": [1, 0, 0],
        "item_impressions_24h": [9, 8, 7],
    }
)


def write(folder: Path, as_of: int, rows: pa.Table = ROWS) -> Path:
    return write_snapshot(folder, View.ITEM_WINDOWS, rows, as_of)


def test_the_same_rows_in_any_order_are_the_same_bytes_under_the_same_name(tmp_path: Path) -> None:
    shuffled = pa.concat_tables([ROWS.slice(2), ROWS.slice(0, 2)]).select(ROWS.column_names[::-1])
    first, second = write(tmp_path / "a", NOON), write(tmp_path / "b", NOON, shuffled)
    assert first.relative_to(tmp_path / "a") == second.relative_to(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_every_row_carries_the_moment_it_holds_at_in_microseconds_utc(tmp_path: Path) -> None:
    table = pq.ParquetFile(write(tmp_path, NOON)).read()
    assert table.schema == SNAPSHOT_SCHEMAS[View.ITEM_WINDOWS]
    assert table[EVENT_TIMESTAMP].cast(pa.int64()).to_pylist() == [NOON] * 3
    assert table.drop([EVENT_TIMESTAMP]).to_pylist() == ROWS.sort_by(ITEM_KEY).to_pylist()


def test_a_moment_written_again_replaces_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, NOON)
    write(tmp_path, NOON, ROWS.slice(1, 1))
    assert snapshots(tmp_path, View.ITEM_WINDOWS) == [NOON]
    assert pq.read_table(tmp_path / View.ITEM_WINDOWS)[ITEM_KEY].to_pylist() == ["lamp"]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (ROWS.drop(["item_purchases_24h"]), "missing ['item_purchases_24h']"),
        (ROWS.append_column("colour", pa.array(["red"] * 3)), "unknown ['colour']"),
        (
            ROWS.set_column(2, "item_interactions_1h", pa.array(np.ones(3))),
            "item_interactions_1h is double, not int64",
        ),
        (ROWS.append_column(ITEM_KEY, pa.array(["a", "b", "c"])), "twice ['item_id']"),
        (ROWS.set_column(0, ITEM_KEY, pa.array(["mug", None, "pot"])), "1 rows .* have no key"),
        (pa.concat_tables([ROWS, ROWS.slice(2)]), "1 rows .* repeat a key"),
    ],
)
def test_rows_that_do_not_fit_the_view_are_refused_and_leave_no_file(
    rows: pa.Table, complaint: str, tmp_path: Path
) -> None:
    pattern = complaint if ".*" in complaint else complaint.replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(InputError, match=pattern):
        write(tmp_path, NOON, rows)
    assert list(tmp_path.iterdir()) == []


def test_forgetting_keeps_what_holds_at_the_moment_and_all_that_is_newer(tmp_path: Path) -> None:
    days = [NOON + day * DAY for day in range(5)]
    for day in reversed(days):
        write(tmp_path, day)
    forget_before(tmp_path, days[2] + 1)
    assert snapshots(tmp_path, View.ITEM_WINDOWS) == days[2:]
    forget_before(tmp_path, days[3])
    assert snapshots(tmp_path, View.ITEM_WINDOWS) == days[3:]
    forget_before(tmp_path, days[4] + 100 * DAY)
    assert snapshots(tmp_path, View.ITEM_WINDOWS) == days[4:]


def test_a_source_without_rows_has_the_views_columns_and_is_no_moment(tmp_path: Path) -> None:
    ensure_sources(tmp_path)
    for view, schema in SNAPSHOT_SCHEMAS.items():
        assert snapshots(tmp_path, view) == []
        table = pq.read_table(tmp_path / view)
        assert (table.schema, table.num_rows) == (schema, 0)


def test_many_may_ask_for_the_sources_of_a_new_home_at_once(tmp_path: Path) -> None:
    ready = Barrier(8)

    def ask(folder: Path) -> None:
        ready.wait()
        ensure_sources(folder)

    for attempt in range(10):
        folder = tmp_path / str(attempt)
        with ThreadPoolExecutor(ready.parties) as pool:
            list(pool.map(ask, [folder] * ready.parties))
        assert all(pq.read_table(folder / view).schema == schema for view, schema in SNAPSHOT_SCHEMAS.items())
