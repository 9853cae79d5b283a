"""What lay over the items at any step comes back as it was, or is said to be gone."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.errors import GoneError
from feature_repo.item_activity import ACTIVITY_COUNTS, ActivityTable
from serving.bundle import Bundle
from serving.served import state_journal
from serving.served.activity_state import all_rows, changed_rows, table_of_rows
from serving.served.catalog_state import differences, own_arrays, rows_at, with_state
from serving.served.state_journal import StateJournal, StateLayer, read_state
from tests.tiny_bundle import NAMES, tiny_bundle

BUNDLE = tiny_bundle()
ITEMS = len(NAMES)


def state(layer: StateLayer) -> str:
    assert layer.state is not None
    return layer.state


changes = st.lists(
    st.tuples(st.integers(0, ITEMS - 1), st.booleans(), st.floats(0, 99, width=32)), min_size=1, max_size=3
)


@settings(max_examples=25, deadline=None)
@given(st.lists(changes, max_size=6), st.integers(0, 5))
def test_prices_and_availability_come_back_as_they_were_at_every_step(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[tuple[int, bool, float]]], written_at: int
) -> None:
    folder = tmp_path_factory.mktemp("catalog")
    journal, own = StateJournal(folder), own_arrays(BUNDLE)
    layer = journal.layer(lambda: differences(own, BUNDLE))
    layer.begin()
    seen: list[tuple[str, Bundle]] = [(state(layer), own_arrays(own))]
    for number, step in enumerate(steps):
        for item, available, price in step:
            own.availability.available[item] = available
            own.items.price[item], own.items.price_missing[item] = price, not available
        layer.note(rows_at(own, np.array([item for item, _, _ in step], np.int32)))
        seen.append((state(layer), own_arrays(own)))
        if number == written_at:
            journal.write()
    journal.write()
    for name, then in seen:
        again = with_state(BUNDLE, read_state(folder, name))
        np.testing.assert_array_equal(again.availability.available, then.availability.available)
        np.testing.assert_array_equal(again.items.price, then.items.price)
        np.testing.assert_array_equal(again.items.price_missing, then.items.price_missing)


counts = st.lists(st.integers(0, 3), min_size=ITEMS, max_size=ITEMS).map(
    lambda column: np.tile(np.array(column, np.int32)[:, None], len(ACTIVITY_COUNTS))
)
tables = st.builds(
    ActivityTable,
    counts,
    st.integers(0, 9).map(lambda total: np.full(len(ACTIVITY_COUNTS), total, np.int64)),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(tables, min_size=1, max_size=5))
def test_counts_of_items_come_back_as_they_were_at_every_step(
    tmp_path_factory: pytest.TempPathFactory, seen: list[ActivityTable]
) -> None:
    folder = tmp_path_factory.mktemp("activity")
    journal = StateJournal(folder)
    layer = journal.layer(lambda: all_rows(seen[0]))
    layer.begin()
    names = [state(layer)]
    for before, table in pairwise(seen):
        if len(changed := changed_rows(before, table)):
            layer.note(changed)
        names.append(state(layer))
    journal.write()
    for name, table in zip(names, seen, strict=True):
        again = table_of_rows(read_state(folder, name), ITEMS)
        np.testing.assert_array_equal(again.counts, table.counts)
        np.testing.assert_array_equal(again.totals, table.totals)


def rows(value: int) -> pa.Table:
    return pa.table({"value": [value]})


def test_a_layer_begins_anew_after_its_time_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = StateJournal(tmp_path)
    layer = journal.layer(lambda: rows(7))
    layer.begin()
    layer.note(rows(1))
    old = state(layer)
    monkeypatch.setattr(state_journal, "LAYER_SECONDS", 0.0)
    layer.note(rows(2))
    journal.write()
    assert read_state(tmp_path, state(layer))["value"].to_pylist() == [7]
    assert read_state(tmp_path, old)["value"].to_pylist() == [7, 1]


def test_a_state_of_which_a_part_is_lost_is_not_made_up(tmp_path: Path) -> None:
    journal = StateJournal(tmp_path)
    layer = journal.layer(lambda: rows(0))
    layer.begin()
    names = [state(layer)]
    for value in (1, 2):
        journal.write()
        layer.note(rows(value))
        names.append(state(layer))
    journal.write()
    first, second, _ = sorted(tmp_path.rglob("*.arrow"))
    second.unlink()
    assert read_state(tmp_path, names[0])["value"].to_pylist() == [0]
    for name in names[1:]:
        with pytest.raises(GoneError, match="not whole"):
            read_state(tmp_path, name)
    first.unlink()
    with pytest.raises(GoneError, match="is gone"):
        read_state(tmp_path, names[0])
