"""Every shopper's history by item, counted by hand."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.schema import MINUTE, EventType
from feature_repo.session_features import SESSION_GAP
from serving.indexes import UserHistories
from tests.training.tiny_log import Happened, at, encoded
from training.user_histories import user_histories

GAP = SESSION_GAP // MINUTE
LATER = GAP + 10
"""A minute of ann's second visit."""
LOG = [
    Happened("ann", "mug", 0),
    Happened("ann", "lamp", 1),
    Happened("ann", "mug", 2, EventType.PURCHASE),
    Happened("ann", "mug", LATER + 2, EventType.PURCHASE),
    Happened("bob", "lamp", 5, EventType.IMPRESSION),
    Happened("v:x", "desk", 7),
    Happened("v:x", None, 8, EventType.SEARCH),
]
DESK, LAMP, MUG = range(3)


def histories(happened: list[Happened]) -> UserHistories:
    """Of all who showed interest in something."""
    log = encoded(happened, items=["desk", "lamp", "mug"])
    return user_histories(log, np.bincount(log.interactions().shopper, minlength=len(log.shopper_keys)) > 0)


def test_visits_purchases_and_moments_by_hand() -> None:
    ann = histories(LOG).of(0)
    assert ann.items.tolist() == [LAMP, MUG]
    assert ann.visits.tolist() == [1, 2]
    assert ann.purchases.tolist() == [0, 2]
    assert ann.first.tolist() == [at(1), at(0)]
    assert ann.last.tolist() == [at(1), at(LATER + 2)]
    assert ann.total_visits == 2


def test_only_known_shoppers_have_a_history_and_only_of_what_they_showed_interest_in() -> None:
    found = histories(LOG)
    assert found.total_visits.tolist() == [2, 1]  # ann and the visitor; bob was only shown something
    assert found.of(1).items.tolist() == [DESK]
    assert found.offsets.tolist() == [0, 2, 3]


def test_arrays_have_the_types_that_a_bundle_promises() -> None:
    found = histories(LOG)
    assert {name: column.dtype for name, column in vars(found).items()} == {
        "offsets": np.int64,
        "items": np.int32,
        "visits": np.float32,
        "purchases": np.float32,
        "first": np.int64,
        "last": np.int64,
        "total_visits": np.int32,
    }


def test_an_empty_log_has_no_histories() -> None:
    found = histories([])
    assert found.offsets.tolist() == [0]
    assert found.items.size == found.total_visits.size == 0


visits = st.builds(
    Happened,
    shopper=st.sampled_from(["ann", "bob", "v:x"]),
    item=st.sampled_from(["desk", "lamp", "mug"]),
    minute=st.integers(0, 300),
    type=st.sampled_from([EventType.VIEW, EventType.PURCHASE]),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(visits, max_size=30))
def test_all_histories_at_once_are_those_of_each_shopper_alone(happened: list[Happened]) -> None:
    log = encoded(happened, items=["desk", "lamp", "mug"]).interactions()
    found = user_histories(log, np.ones(len(log.shopper_keys), bool))
    session = log.session()
    for user in range(len(log.shopper_keys)):
        own = log.shopper == user
        history = found.of(user)
        assert history.total_visits == np.unique(session[own]).size
        assert history.items.tolist() == sorted(set(log.item[own].tolist()))
        for place, item in enumerate(history.items):
            met = own & (log.item == item)
            assert history.visits[place] == np.unique(session[met]).size
            assert history.purchases[place] == np.count_nonzero(log.type[met] == EventType.PURCHASE.code)
            assert (history.first[place], history.last[place]) == (log.time[met].min(), log.time[met].max())
