"""A replay knows of the items' activity what a server would have known."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.events import LoggedEvent
from feature_repo.item_activity import ACTIVITY_COUNTS, counts_of
from feature_repo.schema import DAY, HOUR, MINUTE, EventType
from tests.feature_repo.log_events import event
from tests.training.tiny_log import NOON, Happened, at, encoded
from training.past_activity import ARRIVAL_DELAY, PastActivity
from training.replay import replay

ITEMS = ("lamp", "mug")
CODES = np.arange(2, dtype=np.int32)
HOURS = 60

some = st.sampled_from
happenings = st.lists(
    st.builds(
        Happened,
        some(["ann", "bob"]),
        some(ITEMS),
        st.integers(-26 * HOURS, 5),
        some([EventType.VIEW, EventType.CLICK, EventType.PURCHASE, EventType.IMPRESSION, EventType.RETURN]),
    ),
    max_size=30,
)


def by_buckets(happened: list[Happened], as_of: int) -> list[list[int]]:
    """What the stream counts of each item, up to a moment."""
    events = [_event(number, what) for number, what in enumerate(happened) if at(what.minute) < as_of]
    buckets = [count for logged in events for count in counts_of(logged, as_of)]
    return [
        [
            sum(
                one.item_id == item
                and one.window == count.window
                and one.event_type in count.types
                and one.start in count.window.starts(as_of)
                for one in buckets
            )
            for count in ACTIVITY_COUNTS
        ]
        for item in ITEMS
    ]


def _event(number: int, what: Happened) -> LoggedEvent:
    return event(number, item_id=what.item, timestamp=at(what.minute), event_type=what.type.value)


@given(happened=happenings, moment=st.integers(0, 90 * 60))
def test_a_log_counts_what_the_streams_buckets_count(happened: list[Happened], moment: int) -> None:
    as_of = NOON + moment * MINUTE // 60
    past = PastActivity.of(encoded(happened, ITEMS)).at(as_of, CODES, len(ITEMS))
    counts, totals = past.counts(CODES)
    assert counts.tolist() == by_buckets(happened, as_of)
    assert totals.tolist() == counts.sum(axis=0).tolist()


def test_items_that_the_model_does_not_know_count_in_the_total_alone() -> None:
    log = encoded([Happened("ann", "lamp", 0), Happened("ann", "mug", 1), Happened("bob", "mug", 2)])
    only_lamp = np.array([0, -1], np.int32)
    counts, totals = PastActivity.of(log).at(at(3), only_lamp, 1).counts(np.zeros(1, np.int32))
    assert counts[0, 0] == 1
    assert totals[0] == 3


def test_a_replayed_request_knows_nothing_of_what_had_not_arrived_or_came_later() -> None:
    happened = [
        Happened("bob", "mug", -10),
        Happened("ann", "lamp", 0),
        Happened("bob", "mug", ARRIVAL_DELAY / MINUTE / -2),
        Happened("ann", "mug", 1),
        Happened("bob", "mug", 2),
    ]
    log = encoded(happened)
    [request] = range(1)
    asked = replay(log, at(0), at(1.5), 10, DAY).with_window().with_activity(PastActivity.of(log))
    assert asked.activity_as_of is not None
    assert asked.activity_as_of[request] == at(0) - ARRIVAL_DELAY
    known = PastActivity.of(log).at(int(asked.activity_as_of[request]), CODES, 2)
    assert known.counts(CODES)[1][:2].tolist() == [0, 1]  # of 5 minutes and of an hour


def test_a_share_of_replayed_requests_knows_nothing() -> None:
    log = encoded([Happened("ann", item, minute) for minute, item in enumerate(ITEMS * 200)])
    asked = replay(log, NOON, NOON + HOUR * 24, 10, DAY).with_window().with_activity(PastActivity.of(log))
    lost = asked.with_lost_activity(0.25, seed=1).activity_as_of
    assert lost is not None
    assert 0.15 < (lost < 0).mean() < 0.35
