"""Popularity: shares, their half-life, the lists within groups, and what is on the rise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from feature_repo.schema import DAY, MINUTE
from tests.training.tiny_log import Happened, at, encoded
from training.popularity import (
    HALF_LIFE,
    MOST_TRENDING,
    PER_GROUP,
    STEADY,
    TREND_HALF_LIFE,
    category_popularity,
    most_popular,
    most_popular_by_group,
    most_trending,
    popularity,
)

HALF_LIFE_IN_MINUTES = HALF_LIFE // MINUTE
DAY_IN_MINUTES = DAY // MINUTE


def test_an_interaction_counts_half_after_the_half_life() -> None:
    log = encoded([Happened("ann", "old", 0), Happened("bob", "new", HALF_LIFE_IN_MINUTES)])
    now = at(HALF_LIFE_IN_MINUTES) + 1
    assert popularity(log, now) == pytest.approx([2 / 3, 1 / 3])  # new, old


def test_shares_add_up_to_one_and_do_not_grow_with_the_log() -> None:
    log = [Happened("ann", "a", 0), Happened("ann", "b", 1), Happened("ann", "a", 2)]
    again = [event._replace(shopper="bob") for event in log]
    share = popularity(encoded(log), at(3))
    assert share.sum() == pytest.approx(1)
    assert popularity(encoded([*log, *again]), at(3)) == pytest.approx(share)


def test_a_shorter_half_life_lets_the_new_count_for_more() -> None:
    log = encoded([Happened("ann", "old", 0), Happened("bob", "new", 2 * DAY_IN_MINUTES)])
    now = at(2 * DAY_IN_MINUTES)
    assert popularity(log, now, half_life=DAY) == pytest.approx([4 / 5, 1 / 5])


def test_a_log_without_interactions_has_shares_of_zero() -> None:
    assert popularity(encoded([], items=["a", "b"]), at(0)).tolist() == [0, 0]


def test_every_item_is_in_the_overall_order_the_unseen_last() -> None:
    order, shares = most_popular(np.array([0, 0.2, 0.5, 0, 0.3], np.float32))
    assert order.tolist() == [2, 4, 1, 0, 3]
    assert shares.tolist() == pytest.approx([0.5, 0.3, 0.2, 0, 0])


def test_each_category_lists_the_items_that_someone_met_by_share_within_it() -> None:
    share = np.array([0.1, 0.3, 0, 0.2, 0.4], np.float32)
    category = np.array([0, 0, 0, 2, -1], np.int32)
    lists = category_popularity(share, category, 3)
    assert lists.offsets.tolist() == [0, 2, 2, 3]
    assert lists.items.tolist() == [1, 0, 3]
    assert lists.scores.tolist() == pytest.approx([0.75, 0.25, 1])


@settings(max_examples=50, deadline=None)
@given(
    share=arrays(np.float32, 300, elements=st.floats(0, 1, width=32)),
    category=arrays(np.int32, 300, elements=st.integers(-1, 3)),
)
def test_offsets_cut_the_list_into_the_best_of_each_category(
    share: "np.typing.NDArray[np.float32]", category: "np.typing.NDArray[np.int32]"
) -> None:
    lists = category_popularity(share, category, 4)
    for code in range(4):
        found, _ = lists.of(code)
        met = np.flatnonzero((category == code) & (share > 0))
        best = sorted(met, key=lambda item: (-share[item], item))[:PER_GROUP]
        assert found.tolist() == best


def test_an_item_may_be_popular_in_several_groups_and_weighs_in_each_what_it_weighs_there() -> None:
    items, groups = np.array([5, 6, 5, 7, 8]), np.array([0, 0, 2, 2, 2])
    lists = most_popular_by_group(items, groups, np.array([1.0, 3.0, 2.0, 2.0, 0.0]), 4)
    assert lists.offsets.tolist() == [0, 2, 2, 4, 4]
    assert lists.items.tolist() == [
        6,
        5,
        5,
        7,
    ]  # of two that weigh alike the first, nothing that weighs nothing
    assert lists.scores.tolist() == pytest.approx([3 / 4, 1 / 4, 1 / 2, 1 / 2])


def test_what_is_met_more_than_it_used_to_be_is_on_the_rise() -> None:
    log = encoded([Happened("ann", "old", 0), Happened("bob", "new", HALF_LIFE_IN_MINUTES)])
    items, rises = most_trending(log, at(HALF_LIFE_IN_MINUTES))
    faded = 2.0 ** -(HALF_LIFE / TREND_HALF_LIFE)
    now, usually = 1 / (1 + faded), 1 / (1 + 1 / 2)
    assert [log.item_ids[item] for item in items] == ["new"]
    assert rises == pytest.approx([(now + STEADY) / (usually + STEADY)])
    assert items.dtype == np.int32
    assert rises.dtype == np.float32


def test_where_every_day_is_like_the_other_nothing_is_on_the_rise() -> None:
    days = [Happened("ann", item, day * DAY_IN_MINUTES) for day in range(40) for item in "ab"]
    items, _ = most_trending(encoded(days), at(40 * DAY_IN_MINUTES))
    assert items.tolist() == []
    assert most_trending(encoded([], items=["a"]), at(0))[0].tolist() == []


def test_only_the_steepest_rises_are_kept_the_steepest_first() -> None:
    more = MOST_TRENDING + 20
    log = [Happened("ann", "old", 0)] * 50
    log += [Happened("bob", f"r{number:03}", 20 * DAY_IN_MINUTES + number) for number in range(more)]
    table = encoded(log)
    items, rises = most_trending(table, at(20 * DAY_IN_MINUTES + more))
    assert items.size == MOST_TRENDING
    assert (np.diff(rises) <= 0).all()
    assert (rises > 1).all()
    assert table.item_ids[items[0]] == f"r{more - 1:03}"  # the newest
