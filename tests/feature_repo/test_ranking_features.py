"""The ranking matrix, column by column and by name, on a shop of five items."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.arrays import Bool, Float32, Int32
from feature_repo.batch_features import ITEM_STATISTICS, USER_STATISTICS
from feature_repo.item_activity import ACTIVITY_FEATURES
from feature_repo.ranking_features import (
    RANKING_COLUMNS,
    SOURCES,
    Candidates,
    Interest,
    ItemColumns,
    ShopperState,
    UserRow,
)
from feature_repo.ranking_matrix import ranking_matrix
from feature_repo.schema import DAY, HOUR, MINUTE, SECOND, EventType
from feature_repo.session_features import SESSION_FEATURES, UNKNOWN_ITEM, Window, session_features
from feature_repo.user_history import HISTORY_FEATURES, UserHistory, history_features
from feature_repo.user_tower import UserTower

AS_OF = 1_750_000_000 * SECOND
"""Sunday, 2025-06-15, 15:06:40 UTC."""
MUG, CUP, LAMP, TOY, MYSTERY = range(5)
"""Items; of the last one nothing is known."""
VIEW, CART, PURCHASE, SEARCH = (
    kind.code for kind in (EventType.VIEW, EventType.ADD_TO_CART, EventType.PURCHASE, EventType.SEARCH)
)
HOME, FUN = 0, 1
MUGS, LIGHTS, TOYS = range(3)
NAN = np.nan

PRICES = np.array([10, 20, 40, 80, 30], np.float32)
ITEMS = ItemColumns(
    statistics=np.arange(5 * len(ITEM_STATISTICS), dtype=np.float32).reshape(5, -1),
    first_seen=np.array([AS_OF - 9 * DAY, AS_OF - 3 * DAY, AS_OF, AS_OF + DAY, -1]),
    last_seen=np.array([AS_OF - DAY, AS_OF - 2 * DAY, AS_OF, AS_OF + DAY, -1]),
    category=np.array([MUGS, MUGS, LIGHTS, TOYS, -1], np.int32),
    department=np.array([HOME, HOME, HOME, FUN, -1], np.int32),
    brand=np.array([7, 8, 7, -1, -1], np.int32),
    price=PRICES,
    price_missing=np.array([False, False, False, False, True]),
    content=np.array([[1, 0], [0.8, 0.6], [0, 1], [0, -1], [0, 0]], np.float32),
)
TOWER = UserTower(
    embeddings=np.array([[1, 0], [0.6, 0.8], [0, 1], [-1, 0], [0, 0]], np.float32),
    item_weight=np.array([1, 1, 1, 1, 0], np.float32),
    recency=np.zeros(8, np.float32),
    event_type=np.zeros(len(EventType), np.float32),
)
HISTORY = UserHistory(
    items=np.array([MUG, TOY], np.int32),
    visits=np.array([3, 1], np.float32),
    purchases=np.array([2, 0], np.float32),
    first=np.array([AS_OF - 40 * DAY, AS_OF - 3 * DAY]),
    last=np.array([AS_OF - DAY, AS_OF - 3 * DAY]),
    total_visits=6,
)
USER = UserRow(
    np.linspace(1, 2, len(USER_STATISTICS), dtype=np.float32), np.array([0, 1], np.float32), HISTORY
)
STRANGER = UserRow(np.full(len(USER_STATISTICS), NAN, np.float32), np.zeros(2, np.float32))


def window(*events: tuple[int, int, int]) -> Window:
    """A window of (microseconds before AS_OF, type, item)."""
    return Window(
        np.array([item for _, _, item in events], np.int32),
        np.array([kind for _, kind, _ in events], np.int8),
        np.array([AS_OF - age for age, _, _ in events], np.int64),
    )


WINDOW = window(
    (2 * HOUR, VIEW, MUG),
    (30 * MINUTE, CART, MUG),
    (20 * MINUTE, CART, MUG),
    (15 * MINUTE, PURCHASE, MUG),
    (10 * MINUTE, VIEW, TOY),
    (5 * MINUTE, VIEW, LAMP),
    (2 * MINUTE, SEARCH, UNKNOWN_ITEM),
    (1 * MINUTE, VIEW, UNKNOWN_ITEM),
)
"""Interactions: mug four times, toy, lamp."""


def candidates(*items: int) -> Candidates:
    """The items, brought by no source."""
    n, nothing = len(items), np.full((len(items), len(SOURCES)), NAN, np.float32)
    return Candidates(
        np.array(items, np.int32), np.arange(n, 0, -1, dtype=np.float32), nothing, nothing, nothing
    )


ALL = candidates(MUG, CUP, LAMP, TOY, MYSTERY)


EXPECTED = np.log(np.array([0.1, 0.2, 0.4, 0.25, 0.05], np.float32))
"""Log-probabilities of the items to be next."""


class Expected:
    """An expectation of all five items."""

    def __init__(self, log_probability: Float32) -> None:
        self._log_probability = log_probability

    @property
    def best(self) -> float:
        return float(self._log_probability.max())

    def log_probability(self, items: Int32) -> Float32:
        return self._log_probability[items]

    def likeliest(self, allowed: Bool | None) -> tuple[Int32, Float32]:
        return np.arange(5, dtype=np.int32), self._log_probability


def matrix_of(
    found: Candidates, shopper: ShopperState, expected: Float32 | None = EXPECTED, items: ItemColumns = ITEMS
) -> Float32:
    """The ranking matrix of a shopper of whom the session encoder expects what is ``expected``."""
    active = shopper.window.interactions()
    known = None if expected is None or not active.items.size else Expected(expected)
    interest = Interest(active, TOWER.session_vector(active), known)
    return ranking_matrix(found, shopper, interest, items, TOWER)


def column(
    name: str,
    shopper: Window = WINDOW,
    user: UserRow = USER,
    as_of: int = AS_OF,
    expected: Float32 | None = EXPECTED,
) -> Float32:
    """A column for all five items."""
    matrix = matrix_of(ALL, ShopperState(shopper, user, as_of), expected)
    return matrix[:, RANKING_COLUMNS.index(name)]


def test_every_column_has_one_name() -> None:
    matrix = matrix_of(ALL, ShopperState(WINDOW, USER, AS_OF))
    assert matrix.shape == (5, len(RANKING_COLUMNS))
    assert matrix.dtype == np.float32
    assert len(set(RANKING_COLUMNS)) == len(RANKING_COLUMNS)


LOG_PRICES = np.log1p(PRICES)
WINDOW_LOG_PRICE = (4 * LOG_PRICES[MUG] + LOG_PRICES[TOY] + LOG_PRICES[LAMP]) / 6
TO_SESSION = np.array([3, 1]) / np.sqrt(10)
"""Four mugs (1, 0), a toy (-1, 0) and a lamp (0, 1)."""
CONTENT_OF_WINDOW = np.array([1, 0])
"""Four mugs (1, 0); a toy (0, -1) and a lamp (0, 1) cancel out."""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fused_score", [5, 4, 3, 2, 1]),
        ("revisit_count", [4, 0, 1, 1, 0]),
        ("revisit_steps_ago", [2, NAN, 0, 1, NAN]),
        ("revisit_log_seconds_ago", np.log1p([15 * 60, NAN, 5 * 60, 10 * 60, NAN])),
        ("revisit_carted", [2, 0, 0, 0, 0]),
        ("revisit_purchased", [1, 0, 0, 0, 0]),
        ("next_item_log_probability", EXPECTED),
        ("next_item_margin", np.log([0.1 / 0.4, 0.2 / 0.4, 1, 0.25 / 0.4, 0.05 / 0.4])),
        ("next_item_confidence", np.log([0.4] * 5)),
        ("similarity_last_item", [0, 0.8, 1, 0, 0]),
        ("similarity_session", TOWER.embeddings @ TO_SESSION),
        ("similarity_user", [0, 0.8, 1, 0, 0]),
        ("content_last_item", [0, 0.6, 1, -1, 0]),
        ("content_session", ITEMS.content @ CONTENT_OF_WINDOW),
        ("same_category_last", [0, 0, 1, 0, NAN]),
        ("category_share", [4 / 6, 4 / 6, 1 / 6, 1 / 6, NAN]),
        ("department_share", [5 / 6, 5 / 6, 5 / 6, 1 / 6, NAN]),
        ("same_brand_last", [1, 0, 1, NAN, NAN]),
        ("brand_share", [5 / 6, 0, 5 / 6, NAN, NAN]),
        ("item_log_price", LOG_PRICES),
        ("item_price_missing", [0, 0, 0, 0, 1]),
        ("price_vs_window", LOG_PRICES - WINDOW_LOG_PRICE),
        ("price_vs_user", LOG_PRICES - USER.statistics[USER_STATISTICS.index("user_mean_log_price")]),
        ("item_log_days_since_first_seen", np.log1p([9, 3, 0, 0, NAN])),
        ("item_log_days_since_last_seen", np.log1p([1, 2, 0, 0, NAN])),
        ("hour_of_day", [15] * 5),
        ("day_of_week", [6] * 5),
        *(
            (name, history_features(ALL.items, HISTORY, AS_OF)[:, at])
            for at, name in enumerate(HISTORY_FEATURES)
        ),
        *((name, ITEMS.statistics[:, at]) for at, name in enumerate(ITEM_STATISTICS)),
        *((name, [USER.statistics[at]] * 5) for at, name in enumerate(USER_STATISTICS)),
        *((name, [session_features(WINDOW, AS_OF)[at]] * 5) for at, name in enumerate(SESSION_FEATURES)),
    ],
)
def test_a_column_holds_what_its_name_says(name: str, expected: list[float]) -> None:
    np.testing.assert_allclose(column(name), np.array(expected, np.float32), rtol=1e-5, atol=1e-6)


def test_each_sources_score_rank_and_relative_stand_under_its_name() -> None:
    scores, ranks, relative = (
        np.arange(2 * len(SOURCES), dtype=np.float32).reshape(2, -1) + 100 * kind for kind in range(3)
    )
    found = Candidates(np.array([MUG, TOY], np.int32), np.ones(2, np.float32), scores, ranks, relative)
    matrix = matrix_of(found, ShopperState(WINDOW, USER, AS_OF))
    for at, source in enumerate(SOURCES):
        for what, table in (("score", scores), ("rank", ranks), ("relative", relative)):
            named = matrix[:, RANKING_COLUMNS.index(f"{source}_{what}")]
            np.testing.assert_array_equal(named, table[:, at])


def test_for_a_stranger_what_does_not_exist_is_nan_and_nothing_else_is() -> None:
    """Of an item of which everything is known, brought by no source."""
    matrix = matrix_of(candidates(MUG), ShopperState(window(), STRANGER, AS_OF))
    unknown = {name for name, value in zip(RANKING_COLUMNS, matrix[0], strict=True) if np.isnan(value)}
    assert unknown == {
        *(f"{source}_{what}" for source in SOURCES for what in ("score", "rank", "relative")),
        *ACTIVITY_FEATURES,
        "revisit_steps_ago",
        "revisit_log_seconds_ago",
        "history_log_days_since_last",
        "history_log_days_since_first",
        "history_overdue",
        "next_item_log_probability",
        "next_item_margin",
        "next_item_confidence",
        "similarity_last_item",
        "similarity_session",
        "content_last_item",
        "content_session",
        "same_category_last",
        "category_share",
        "department_share",
        "same_brand_last",
        "brand_share",
        "price_vs_window",
        "price_vs_user",
        "log_seconds_since_last",
        *USER_STATISTICS,
    }


def test_events_without_interest_in_a_known_item_are_no_revisits() -> None:
    shopper = window((3, EventType.RETURN.code, MUG), (2, SEARCH, UNKNOWN_ITEM), (1, VIEW, UNKNOWN_ITEM))
    assert column("revisit_count", shopper).tolist() == [0] * 5
    assert np.isnan(column("same_category_last", shopper)).all()


def test_without_a_session_encoder_nothing_is_said_of_the_next_item() -> None:
    for name in ("next_item_log_probability", "next_item_margin", "next_item_confidence"):
        assert np.isnan(column(name, expected=None)).all()


def test_a_shop_whose_catalog_says_nothing_has_no_content_to_compare() -> None:
    silent = replace(ITEMS, content=np.zeros((5, 0), np.float32))
    matrix = matrix_of(ALL, ShopperState(WINDOW, USER, AS_OF), items=silent)
    for name in ("content_last_item", "content_session"):
        assert np.isnan(matrix[:, RANKING_COLUMNS.index(name)]).all()


def test_an_item_met_in_the_future_was_met_now() -> None:
    assert column("revisit_log_seconds_ago", window((-4 * MINUTE, VIEW, MUG)))[MUG] == 0


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2000, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2024, 12, 30, tzinfo=UTC),
        datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC),
        datetime(2025, 6, 16, 0, 0, tzinfo=UTC),
        datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
    ],
)
def test_the_clock_is_utc_and_the_week_begins_on_monday(moment: datetime) -> None:
    as_of = round(moment.timestamp() * SECOND)
    assert column("hour_of_day", as_of=as_of).tolist() == [moment.hour] * 5
    assert column("day_of_week", as_of=as_of).tolist() == [moment.weekday()] * 5


def test_days_of_the_week_count_up_from_monday() -> None:
    monday = round(datetime(2025, 6, 16, 12, tzinfo=UTC).timestamp() * SECOND)
    days = [column("day_of_week", as_of=monday + day * DAY)[0] for day in range(8)]
    assert days == [0, 1, 2, 3, 4, 5, 6, 0]
    assert all(later - earlier in {1, -6} for earlier, later in pairwise(days))


@st.composite
def shoppers(draw: st.DrawFn) -> ShopperState:
    events = draw(
        st.lists(
            st.tuples(
                st.integers(-5 * MINUTE, 100 * DAY),
                st.integers(0, len(EventType) - 1),
                st.integers(UNKNOWN_ITEM, MYSTERY),
            ),
            max_size=10,
        )
    )
    return ShopperState(window(*sorted(events, reverse=True)), draw(st.sampled_from([USER, STRANGER])), AS_OF)


@settings(deadline=None)
@given(shoppers(), st.lists(st.integers(MUG, MYSTERY), min_size=1, unique=True))
def test_a_row_does_not_depend_on_the_candidates_beside_it(shopper: ShopperState, items: list[int]) -> None:
    fused = np.ones(1, np.float32)
    together = matrix_of(replace(candidates(*items), fused=np.repeat(fused, len(items))), shopper)
    for row, item in zip(together, items, strict=True):
        [alone] = matrix_of(replace(candidates(item), fused=fused), shopper)
        np.testing.assert_allclose(row, alone, rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(shoppers())
def test_no_feature_is_infinite(shopper: ShopperState) -> None:
    assert not np.isinf(matrix_of(ALL, shopper)).any()


def test_no_candidates_make_an_empty_matrix() -> None:
    matrix = matrix_of(candidates(), ShopperState(WINDOW, USER, AS_OF))
    assert matrix.shape == (0, len(RANKING_COLUMNS))
