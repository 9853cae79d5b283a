"""What sources search: lists by group, sessions by item, shoppers by taste, histories by shopper."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.schema import DAY
from serving.indexes import Segments
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


def test_members_are_the_shoppers_of_the_nearest_segments_the_nearest_first() -> None:
    segments = Segments(
        np.eye(3, dtype=np.float32), np.array([4, 5, 0, 1, 2], np.int32), np.array([0, 2, 2, 5], np.int32)
    )
    taste = np.array([0.5, 0.7, 0.6], np.float32)
    assert segments.members(taste, 1).tolist() == []  # nobody is in the second
    assert segments.members(taste, 2).tolist() == [0, 1, 2]
    assert segments.members(taste, 3).tolist() == [0, 1, 2, 4, 5]
    assert segments.members(taste, 9).tolist() == [0, 1, 2, 4, 5]


def test_the_history_of_one_shopper_is_its_own() -> None:
    for user, visits in enumerate(VISITS):
        history = TINY.histories.of(user)
        assert history.items.tolist() == codes(visits).tolist()
        assert history.visits.tolist() == list(visits.values())
        assert history.purchases.tolist() == [1] * len(visits)
        assert set(history.first) == {TRAINED_AT - 20 * DAY}
        assert set(history.last) == {TRAINED_AT - 5 * DAY}
        assert history.total_visits == ALL_VISITS[user]


@given(st.lists(st.integers(0, len(VISITS) - 1), max_size=6))
def test_histories_of_several_shoppers_are_those_of_each_one_after_the_other(users: list[int]) -> None:
    items, shares, lengths = TINY.histories.of_users(np.array(users, np.int32))
    alone = [TINY.histories.of(user) for user in users]
    assert lengths.tolist() == [history.items.size for history in alone]
    assert items.tolist() == [item for history in alone for item in history.items]
    expected = [visits / history.total_visits for history in alone for visits in history.visits]
    np.testing.assert_allclose(shares, expected, rtol=1e-6)
