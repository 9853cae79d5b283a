"""What the ranker makes of the counts of items, and the message that carries them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.activity_message import MESSAGE_SCHEMA, PublishedActivity
from feature_repo.item_activity import (
    ACTIVITY_COUNTS,
    ACTIVITY_FEATURES,
    UNKNOWN_ACTIVITY,
    ActivityTable,
    log_share,
    smoothed_rate,
)

MUG, LAMP = 0, 1
NAMES = [count.name for count in ACTIVITY_COUNTS]


def table(**counts: tuple[int, int]) -> ActivityTable:
    """The activity of a shop of two items, mug and lamp, and no other."""
    columns = np.array([counts.get(name, (0, 0)) for name in NAMES], np.int32).T
    return ActivityTable(columns, columns.sum(axis=0, dtype=np.int64))


def feature(name: str, activity: ActivityTable) -> list[float]:
    items = np.array([MUG, LAMP], np.int32)
    return activity.features(items)[:, ACTIVITY_FEATURES.index(name)].tolist()


def test_an_item_met_as_often_as_the_mean_has_share_0_and_one_met_more_a_higher_one() -> None:
    even = table(item_interactions_1h=(7, 7))
    assert feature("item_log_share_1h", even) == pytest.approx([0, 0])
    uneven = table(item_interactions_1h=(9, 1))
    assert feature("item_log_share_1h", uneven) == pytest.approx([np.log(9.5 / 11 * 2), np.log(1.5 / 11 * 2)])


def test_momentum_is_above_0_where_the_last_hour_is_more_than_the_day_lets_expect() -> None:
    rising = table(item_interactions_1h=(8, 2), item_interactions_24h=(50, 50))
    mug, lamp = feature("item_momentum", rising)
    assert mug > 0 > lamp


def test_a_rate_is_drawn_to_the_mean_of_all_and_unknown_where_nothing_was_tried() -> None:
    clicked = table(item_impressions_24h=(80, 0), item_clicks_24h=(8, 0))
    assert feature("item_click_rate_24h", clicked) == pytest.approx([0.1, 0.1])
    assert np.isnan(feature("item_cart_rate_24h", clicked)).all()


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 50), min_size=2, max_size=2), min_size=len(NAMES), max_size=len(NAMES))
)
def test_features_follow_from_the_counts_by_the_formulas_of_the_archive(counts: list[list[int]]) -> None:
    activity = table(**{name: (mug, lamp) for name, (mug, lamp) in zip(NAMES, counts, strict=True)})
    by_name = {name: (activity.counts[:, at], int(activity.totals[at])) for at, name in enumerate(NAMES)}
    met = by_name["item_interactions_24h"]
    hour, day = (log_share(*by_name[f"item_interactions_{length}"], 2) for length in ("1h", "24h"))
    expected = [
        log_share(*by_name["item_interactions_5m"], 2),
        hour,
        day,
        hour - day,
        smoothed_rate(*by_name["item_carts_24h"], *met),
        smoothed_rate(*by_name["item_purchases_24h"], *met),
        smoothed_rate(*by_name["item_clicks_24h"], *by_name["item_impressions_24h"]),
    ]
    features = activity.features(np.array([LAMP, MUG], np.int32))
    np.testing.assert_allclose(features, np.stack(expected, axis=1)[::-1], rtol=1e-6, atol=1e-6)


def test_where_nobody_counts_every_feature_is_unknown() -> None:
    assert np.isnan(UNKNOWN_ACTIVITY.features(np.array([LAMP], np.int32))).all()


def test_a_message_says_what_was_published() -> None:
    counts = pa.table(
        [["mug", "Ünïcödé-🛒"], *[[n, 2 * n] for n in range(len(NAMES))]], schema=MESSAGE_SCHEMA
    )
    said = PublishedActivity.from_bytes(PublishedActivity(123, counts).to_bytes())
    assert said.as_of == 123
    assert said.counts.to_pydict() == counts.to_pydict()


@pytest.mark.parametrize(
    "damage", [b"", b"no arrow", PublishedActivity(1, MESSAGE_SCHEMA.empty_table()).to_bytes()[:40]]
)
def test_what_is_no_message_is_told(damage: bytes) -> None:
    with pytest.raises((pa.ArrowInvalid, KeyError)):
        PublishedActivity.from_bytes(damage)
