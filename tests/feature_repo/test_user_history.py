"""A shopper's part in the items of its history, by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.schema import DAY, HOUR
from feature_repo.user_history import (
    HISTORY_FEATURES,
    NO_HISTORY,
    UserHistory,
    days_since,
    history_features,
)

AS_OF = 1_750_000_000_000_000
MILK, SOAP, LAMP, MUG = 2, 5, 7, 9
"""Items: milk is bought all the time, soap now and then, the lamp was met once; the mug is new to the shopper."""
HISTORY = UserHistory(
    items=np.array([MILK, SOAP, LAMP], np.int32),
    visits=np.array([5, 3, 1], np.float32),
    purchases=np.array([4, 1, 0], np.float32),
    first=np.array([AS_OF - 9 * DAY, AS_OF - 19 * DAY, AS_OF - 2 * DAY]),
    last=np.array([AS_OF - DAY, AS_OF - 10 * DAY, AS_OF - 2 * DAY]),
    total_visits=10,
)
NAN = np.nan


def column(name: str, *items: int, history: UserHistory = HISTORY, as_of: int = AS_OF) -> list[float]:
    matrix = history_features(np.array(items, np.int32), history, as_of)
    assert matrix.shape == (len(items), len(HISTORY_FEATURES))
    assert matrix.dtype == np.float32
    return matrix[:, HISTORY_FEATURES.index(name)].tolist()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("history_visits", [5, 3, 1, 0]),
        ("history_visit_share", [0.5, 0.3, 0.1, 0]),
        ("history_purchases", [4, 1, 0, 0]),
        ("history_log_days_since_last", np.log1p([1, 10, 2, NAN])),
        ("history_log_days_since_first", np.log1p([9, 19, 2, NAN])),
        # Four more visits with milk in 8 days and three nights: (8 + 1) / 4 days between two, and one has passed.
        ("history_overdue", [1 / (9 / 4), 10 / (10 / 2), NAN, NAN]),
    ],
)
def test_a_column_holds_what_its_name_says(name: str, expected: list[float]) -> None:
    np.testing.assert_allclose(column(name, MILK, SOAP, LAMP, MUG), expected, rtol=1e-6)


def test_what_is_met_as_often_as_usual_is_about_due_and_what_is_late_is_more() -> None:
    [due] = column("history_overdue", SOAP, as_of=AS_OF - 5 * DAY)
    [late] = column("history_overdue", SOAP)
    assert due == pytest.approx(1)
    assert late == pytest.approx(2)


def test_two_visits_of_one_day_make_no_feature_infinite() -> None:
    history = UserHistory(
        HISTORY.items[:1], HISTORY.visits[:1], HISTORY.purchases[:1], HISTORY.last[:1], HISTORY.last[:1], 5
    )
    assert column("history_overdue", MILK, history=history) == [4]


def test_items_on_either_side_of_the_history_have_no_part_in_it() -> None:
    assert column("history_visits", 0, 3, 8, 10) == [0, 0, 0, 0]
    assert np.isnan(column("history_log_days_since_last", 0, 3, 8, 10)).all()


def test_a_stranger_has_met_nothing() -> None:
    for name in ("history_visits", "history_visit_share", "history_purchases"):
        assert column(name, MILK, MUG, history=NO_HISTORY) == [0, 0]
    for name in ("history_log_days_since_last", "history_log_days_since_first", "history_overdue"):
        assert np.isnan(column(name, MILK, MUG, history=NO_HISTORY)).all()


def test_days_are_counted_to_the_moment_and_the_future_is_now() -> None:
    moments = np.array([AS_OF - 3 * DAY, AS_OF - 12 * HOUR, AS_OF, AS_OF + DAY])
    assert days_since(moments, AS_OF).tolist() == [3, 0.5, 0, 0]
    assert column("history_log_days_since_last", MILK, as_of=AS_OF - 30 * DAY) == [0]


@given(st.lists(st.integers(0, 12), min_size=1, max_size=8))
def test_an_items_features_do_not_depend_on_the_items_beside_it(items: list[int]) -> None:
    together = history_features(np.array(items, np.int32), HISTORY, AS_OF)
    for row, item in zip(together, items, strict=True):
        [alone] = history_features(np.array([item], np.int32), HISTORY, AS_OF)
        np.testing.assert_array_equal(row, alone)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.integers(0, 12), st.tuples(st.integers(1, 5), st.integers(-2, 90), st.integers(0, 90))
    ),
    st.lists(st.integers(0, 12)),
)
def test_features_are_those_of_the_item_in_any_history(
    met: dict[int, tuple[int, int, int]], items: list[int]
) -> None:
    """Met as often, so many days ago for the last time, so many days after the first."""
    known = dict(sorted(met.items()))
    visits, ago, span = np.array(list(known.values()), np.int64).reshape(-1, 3).T
    last = AS_OF - ago * DAY
    history = UserHistory(
        np.array(list(known), np.int32),
        visits.astype(np.float32),
        visits.astype(np.float32) - 1,
        last - span * DAY,
        last,
        20,
    )
    expected = np.tile([0, 0, 0, NAN, NAN, NAN], (len(items), 1))
    for row, item in enumerate(items):
        if item in known:
            times, since_last, days = known[item]
            since_last, since_first = max(since_last, 0), max(since_last + days, 0)
            overdue = since_last * (times - 1) / (days + 1) if times > 1 else NAN
            expected[row] = [
                times,
                times / 20,
                times - 1,
                np.log1p(since_last),
                np.log1p(since_first),
                overdue,
            ]
    np.testing.assert_allclose(
        history_features(np.array(items, np.int32), history, AS_OF), expected, rtol=1e-6
    )
