"""What sources search: lists by group, sessions by item, shoppers by taste, histories by shopper."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.schema import DAY
from tests.tiny_bundle import ALL_VISITS, NAMES, SESSIONS, TRAINED_AT, VISITS, codes, tiny_bundle

TINY = tiny_bundle()


def test_the_list_of_a_group_is_its_own() -> None:
    office, scores = TINY.category_popularity.of(2)
    assert [NAMES[item] for item in office] == ["desk", "chair", "rug"]
    assert scores.tolist() == [7, 4, 1]


def test_sessions_of_an_item_are_those_that_hold_it_the_newest_first() -> None:
    for name in NAMES:
        held = [number for number, session in enumerate(SESSIONS) if name in session]
        assert TINY.sessions.sessions_of(NAMES.index(name)).tolist() == held
    assert TINY.sessions.session_time.tolist() == [TRAINED_AT - n * DAY for n in range(len(SESSIONS))]


def test_a_taste_belongs_to_the_segment_that_points_most_its_way() -> None:
    segments = TINY.segments
    assert segments.nearest(np.array([1, 0, 0], np.float32)) == 0
    assert segments.nearest(np.array([0.6, 0, 0.8], np.float32)) == 0
    assert segments.nearest(np.array([0.5, 0.1, 0.8], np.float32)) == 1


def test_the_history_of_one_shopper_is_its_own() -> None:
    for user, visits in enumerate(VISITS):
        history = TINY.histories.of(user)
        assert history.items.tolist() == codes(visits).tolist()
        assert history.visits.tolist() == list(visits.values())
        assert history.purchases.tolist() == [1] * len(visits)
        assert set(history.first) == {TRAINED_AT - 20 * DAY}
        assert set(history.last) == {TRAINED_AT - 5 * DAY}
        assert history.total_visits == ALL_VISITS[user]


@given(st.lists(st.tuples(st.integers(0, len(VISITS) - 1), st.floats(0, 1, width=32)), max_size=6))
def test_shares_of_several_shoppers_are_those_of_each_one_after_the_other(
    weighed: list[tuple[int, float]],
) -> None:
    users, weights = [user for user, _ in weighed], [weight for _, weight in weighed]
    items, shares = TINY.histories.shares(np.array(users, np.int32), np.array(weights, np.float32))
    alone = [TINY.histories.of(user) for user in users]
    assert items.dtype == np.int32
    assert items.tolist() == [item for history in alone for item in history.items]
    expected = [
        weight * float(visits) / history.total_visits
        for weight, history in zip(weights, alone, strict=True)
        for visits in history.visits
    ]
    assert shares.dtype == np.float64
    np.testing.assert_allclose(shares, expected, rtol=1e-9)
