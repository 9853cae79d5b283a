"""Loops over the candidates of a request, each of which fills columns of their ranking matrix.

What is read of items lies far apart: each loop reads one thing of all candidates before the next, so that the
processor waits for many of them at once.
"""

import numpy as np

from feature_repo.arrays import Float32, Int8, Int32, Int64
from feature_repo.compiled import (
    FLOAT32_COLUMN_OUT,
    FLOAT32_COLUMNS_OUT,
    FLOAT32_ROWS,
    FLOAT32_TABLE,
    INT,
    INT8S,
    INT32,
    INT32S,
    INT64S,
    compiled,
    together,
)
from feature_repo.schema import DAY, SECOND
from feature_repo.session_features import ADD_TO_CART, PURCHASE


@compiled(FLOAT32_COLUMNS_OUT, FLOAT32_TABLE, FLOAT32_TABLE, FLOAT32_TABLE)
def fill_by_source(columns: Float32, scores: Float32, ranks: Float32, relative: Float32) -> None:
    """float32[n, 3 * sources]: score, rank and relative score by each source, of tables float32[n, sources]."""
    for row in range(len(scores)):
        for source in range(scores.shape[1]):
            columns[row, 3 * source] = scores[row, source]
            columns[row, 3 * source + 1] = ranks[row, source]
            columns[row, 3 * source + 2] = relative[row, source]


@compiled(FLOAT32_COLUMNS_OUT, INT32S, together(INT32S, INT8S, INT64S), INT)
def fill_revisits(columns: Float32, shown: Int32, active: tuple[Int32, Int8, Int64], as_of: int) -> None:
    """float32[n, 5] of items int32[n]: how often each was met, how many interactions and how long ago last, as
    log(1 + s), NaN for never; how often it was carted, and purchased. active: items, types and times of a window.
    """
    met, types, times = active
    for row in range(shown.size):
        count = carted = purchased = 0
        newest = -1
        for event in range(met.size):
            if met[event] == shown[row]:
                count += 1
                carted += types[event] == ADD_TO_CART
                purchased += types[event] == PURCHASE
                newest = event
        columns[row, 0] = count
        columns[row, 1] = met.size - 1 - newest if count else np.nan
        columns[row, 2] = np.log1p(max(as_of - times[newest], 0) / SECOND) if count else np.nan
        columns[row, 3] = carted
        columns[row, 4] = purchased


@compiled(FLOAT32_COLUMNS_OUT, INT32S, FLOAT32_ROWS, FLOAT32_ROWS)
def fill_products(columns: Float32, shown: Int32, vectors: Float32, queries: Float32) -> None:
    """float32[n, q]: dot product of the vector of each item int32[n] with each of queries float32[q, d].

    vectors float32[items, d] are read where they lie, row by row.
    """
    for query in range(len(queries)):
        for row in range(shown.size):
            product = np.float32(0)
            for axis in range(queries.shape[1]):
                product += vectors[shown[row], axis] * queries[query, axis]
            columns[row, query] = product


@compiled(FLOAT32_COLUMN_OUT, INT32S, INT32S, INT32S)
def fill_share(column: Float32, shown: Int32, among: Int32, codes: Int32) -> None:
    """float32[n]: share of the items ``among`` int32[m], one or more, whose code is that of each item int32[n]; NaN
    where that is missing (-1). codes int32[items].
    """
    own, others = codes[shown], codes[among]
    for row in range(shown.size):
        same = 0
        for other in others:
            same += other == own[row]
        column[row] = np.float32(same) / np.float32(others.size) if own[row] >= 0 else np.nan


@compiled(FLOAT32_COLUMN_OUT, INT32S, INT32, INT32S)
def fill_same(column: Float32, shown: Int32, item: int, codes: Int32) -> None:
    """float32[n]: 1 where the code of an item int32[n] is that of ``item``, 0 where not; NaN where either is
    missing (-1). codes int32[items].
    """
    for row in range(shown.size):
        code = codes[shown[row]]
        column[row] = code == codes[item] if code >= 0 and codes[item] >= 0 else np.nan


@compiled(FLOAT32_COLUMNS_OUT, INT32S, FLOAT32_ROWS)
def fill_rows(columns: Float32, shown: Int32, table: Float32) -> None:
    """float32[n, c]: the rows of items int32[n] in a table float32[items, c]."""
    for column in range(table.shape[1]):
        for row in range(shown.size):
            columns[row, column] = table[shown[row], column]


@compiled(FLOAT32_COLUMN_OUT, INT32S, INT64S, INT)
def fill_log_days(column: Float32, shown: Int32, seen: Int64, as_of: int) -> None:
    """float32[n]: log(1 + days) since each item int32[n] was seen, at ``as_of``, 0 for what is ahead of it; NaN
    for never (-1). seen int64[items], microseconds.
    """
    moments = seen[shown]
    for row in range(shown.size):
        column[row] = np.log1p(max(as_of - moments[row], 0) / DAY) if moments[row] >= 0 else np.nan
