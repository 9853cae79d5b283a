"""Distinct values against a dictionary, which keeps the order in which they come."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from feature_repo.arrays import Int32
from feature_repo.distinct_values import distinct

WHOLE = np.iinfo(np.int32)


@given(arrays(np.int32, st.integers(0, 60), elements=st.integers(-5, 20) | st.integers(WHOLE.min, WHOLE.max)))
def test_distinct_values_come_in_the_order_of_their_first_row(values: Int32) -> None:
    first, number = distinct(values)
    expected = list(dict.fromkeys(values.tolist()))
    assert values[first].tolist() == expected
    assert first.tolist() == [values.tolist().index(value) for value in expected]
    assert number.tolist() == [expected.index(value) for value in values.tolist()]


def test_values_that_fill_one_slot_of_the_table_are_kept_apart() -> None:
    """As many as there can be in steps of a power of two, which a careless hash puts into one place."""
    values = np.arange(-1000, 1000, dtype=np.int32) << 20
    first, number = distinct(values)
    assert values[first][number].tolist() == values.tolist()
    assert first.size == np.unique(values).size
