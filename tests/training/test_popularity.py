"""Popularity: shares, their half-life, and the lists within categories."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from feature_repo.schema import MINUTE, EventType
from tests.training.tiny_log import Happened, at, encoded
from training.popularity import (
    HALF_LIFE,
    PER_CATEGORY,
    most_popular,
    most_popular_by_category,
    popularity,
)

HALF_LIFE_IN_MINUTES = HALF_LIFE // MINUTE


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


def test_only_interactions_before_the_moment_count() -> None:
    log = encoded(
        [
            Happened("ann", "a", 0),
            Happened("ann", "b", 1, EventType.IMPRESSION),
            Happened("ann", "b", 2, EventType.RETURN),
            Happened("ann", "b", 3),
        ]
    )
    assert popularity(log, at(3)).tolist() == [1, 0]


def test_a_log_without_interactions_has_shares_of_zero() -> None:
    assert popularity(encoded([], items=["a", "b"]), at(0)).tolist() == [0, 0]


def test_every_item_is_in_the_overall_order_the_unseen_last() -> None:
    order, shares = most_popular(np.array([0, 0.2, 0.5, 0, 0.3], np.float32))
    assert order.tolist() == [2, 4, 1, 0, 3]
    assert shares.tolist() == pytest.approx([0.5, 0.3, 0.2, 0, 0])


def test_each_category_lists_the_items_that_someone_met_by_share_within_it() -> None:
    share = np.array([0.1, 0.3, 0, 0.2, 0.4], np.float32)
    category = np.array([0, 0, 0, 2, -1], np.int32)
    items, within, offsets = most_popular_by_category(share, category, 3)
    assert offsets.tolist() == [0, 2, 2, 3]
    assert items.tolist() == [1, 0, 3]
    assert within.tolist() == pytest.approx([0.75, 0.25, 1])


@settings(max_examples=50, deadline=None)
@given(
    share=arrays(np.float32, 300, elements=st.floats(0, 1, width=32)),
    category=arrays(np.int32, 300, elements=st.integers(-1, 3)),
)
def test_offsets_cut_the_list_into_the_best_of_each_category(
    share: "np.typing.NDArray[np.float32]", category: "np.typing.NDArray[np.int32]"
) -> None:
    items, _, offsets = most_popular_by_category(share, category, 4)
    for code in range(4):
        found = items[offsets[code] : offsets[code + 1]]
        met = np.flatnonzero((category == code) & (share > 0))
        best = sorted(met, key=lambda item: (-share[item], item))[:PER_CATEGORY]
        assert found.tolist() == best
