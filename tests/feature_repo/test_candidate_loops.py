"""Each loop over candidates against whole-array operations, on random shops, into columns of a wider table."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.arrays import Float32, Int32
from feature_repo.candidate_loops import (
    fill_by_source,
    fill_log_days,
    fill_products,
    fill_revisits,
    fill_rows,
    fill_same,
    fill_share,
)
from feature_repo.schema import DAY, SECOND, EventType
from feature_repo.session_features import ADD_TO_CART, PURCHASE

AS_OF = 1_750_000_000 * SECOND
ITEMS = 6
UNTOUCHED = 7.5
MISSING = -1


def frame(rows: int, width: int) -> tuple[Float32, Float32]:
    """A table, and the columns in its midst that are to be filled."""
    table = np.full((rows, width + 2), UNTOUCHED, np.float32)
    return table, table[:, 1:-1]


def items(most: int = 8, least: int = 0) -> st.SearchStrategy[Int32]:
    chosen = st.lists(st.integers(0, ITEMS - 1), min_size=least, max_size=most)
    return chosen.map(lambda drawn: np.array(drawn, np.int32))


CODES = st.lists(st.integers(MISSING, 2), min_size=ITEMS, max_size=ITEMS).map(
    lambda drawn: np.array(drawn, np.int32)
)
SEEDS = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def assert_filled(table: Float32, expected: Float32) -> None:
    np.testing.assert_allclose(table[:, 1:-1], expected, rtol=1e-5, atol=1e-6)
    assert (table[:, [0, -1]] == UNTOUCHED).all()


@settings(deadline=None)
@given(
    SEEDS, st.integers(0, 5), st.integers(0, 4), st.sampled_from([np.ascontiguousarray, np.asfortranarray])
)
def test_what_a_source_says_stands_side_by_side(
    random: np.random.Generator, rows: int, sources: int, laid_out: Callable[[Float32], Float32]
) -> None:
    tables = random.random((3, rows, sources), np.float32)
    tables[random.random(tables.shape) < 0.3] = np.nan
    table, columns = frame(rows, 3 * sources)
    fill_by_source(columns, *map(laid_out, tables))
    assert_filled(table, tables.transpose(1, 2, 0).reshape(rows, 3 * sources))


@settings(deadline=None)
@given(SEEDS, items(), items(most=20))
def test_revisits_are_counted_and_dated_by_the_newest(
    random: np.random.Generator, shown: Int32, met: Int32
) -> None:
    types = random.integers(0, len(EventType), met.size).astype(np.int8)
    times = np.sort(AS_OF - random.integers(-DAY, 9 * DAY, met.size))
    table, columns = frame(shown.size, 5)
    fill_revisits(columns, shown, (met, types, times), AS_OF)
    expected = np.full((shown.size, 5), np.nan)
    for row, item in enumerate(shown):
        visits = np.flatnonzero(met == item)
        expected[row, 0] = visits.size
        if visits.size:
            expected[row, 1] = np.count_nonzero(np.arange(met.size) > visits[-1])
            expected[row, 2] = np.log1p(max(AS_OF - times[visits[-1]], 0) / SECOND)
        expected[row, 3] = np.count_nonzero(types[visits] == ADD_TO_CART)
        expected[row, 4] = np.count_nonzero(types[visits] == PURCHASE)
    assert_filled(table, expected.astype(np.float32))


@settings(deadline=None)
@given(SEEDS, items(), st.integers(0, 40), st.integers(0, 3))
def test_products_are_those_of_matrices_and_what_is_unknown_stays_so(
    random: np.random.Generator, shown: Int32, dimensions: int, queries: int
) -> None:
    vectors = random.standard_normal((ITEMS, dimensions), np.float32)
    asked = random.standard_normal((queries, dimensions), np.float32)
    asked[:1] = np.nan
    vectors.flags.writeable = False  # as what is mapped from a file
    table, columns = frame(shown.size, queries)
    fill_products(columns, shown, vectors, asked)
    assert_filled(table, vectors[shown] @ asked.T)


@settings(deadline=None)
@given(items(), items(least=1), CODES)
def test_a_share_is_of_the_items_with_the_same_code(shown: Int32, among: Int32, codes: Int32) -> None:
    table, columns = frame(shown.size, 1)
    fill_share(columns[:, 0], shown, among, codes)
    share = (codes[shown][:, None] == codes[among]).mean(axis=1)
    assert_filled(table, np.where(codes[shown] == MISSING, np.nan, share)[:, None])


@settings(deadline=None)
@given(items(), st.integers(0, ITEMS - 1), CODES)
def test_items_are_the_same_where_their_codes_are_and_neither_is_missing(
    shown: Int32, item: int, codes: Int32
) -> None:
    table, columns = frame(shown.size, 1)
    fill_same(columns[:, 0], shown, item, codes)
    missing = (codes[shown] == MISSING) | (codes[item] == MISSING)
    assert_filled(table, np.where(missing, np.nan, codes[shown] == codes[item])[:, None])


@settings(deadline=None)
@given(SEEDS, items(), st.integers(0, 4))
def test_rows_are_those_of_the_items(random: np.random.Generator, shown: Int32, width: int) -> None:
    rows = random.random((ITEMS, width), np.float32)
    rows[random.random(rows.shape) < 0.3] = np.nan
    table, columns = frame(shown.size, width)
    fill_rows(columns, shown, rows)
    assert_filled(table, rows[shown])


@pytest.mark.parametrize(
    ("seen", "days"),
    [(AS_OF - 3 * DAY, 3), (AS_OF, 0), (AS_OF + DAY, 0), (MISSING, np.nan), (0, AS_OF / DAY)],
)
def test_days_are_counted_since_an_item_was_seen(seen: int, days: float) -> None:
    table, columns = frame(2, 1)
    fill_log_days(columns[:, 0], np.array([1, 0], np.int32), np.array([AS_OF - 8 * DAY, seen]), AS_OF)
    assert_filled(table, np.log1p(np.array([[days], [8]])))
