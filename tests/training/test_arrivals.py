"""Replay of arrivals: every visit of a known shopper begins with a request for all that it brings."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.schema import DAY, MINUTE, EventType
from feature_repo.session_features import SESSION_GAP
from serving.query import Query
from tests.tiny_bundle import NAMES, tiny_bundle
from tests.training.tiny_log import NOON, Happened, at, encoded
from training.arrivals import in_session, replay_arrivals
from training.replay import EVENT_WORTH, Replay, replay

TTL = 90 * DAY
END = at(10**7)
GAP = SESSION_GAP // MINUTE
NEXT = 100
"""A minute of the next visit."""


def arrivals(
    happened: list[Happened], start: int = NOON, end: int = END, window_size: int = 64, ttl: int = TTL
) -> Replay:
    return replay_arrivals(encoded(happened), start, end, window_size, ttl)


def described(found: Replay) -> list[tuple[str, str]]:
    """Items of each window, and what was wanted."""
    names = found.log.item_ids
    spans = zip(found.start, found.stop, found.offsets[:-1], found.offsets[1:], strict=True)
    return [
        (
            "".join("-" if code < 0 else names[code] for code in found.log.item[start:stop]),
            "".join(names[code] for code in found.wanted[first:last]),
        )
        for start, stop, first, last in spans
    ]


def visit(items: str, minute: float, shopper: str = "ann") -> list[Happened]:
    return [Happened(shopper, item, minute + step) for step, item in enumerate(items)]


LOG = [*visit("ab", 0), *visit("cab", NEXT), *visit("b", 2 * NEXT)]


def test_a_visit_is_asked_for_when_it_begins_and_wants_all_that_it_brings() -> None:
    found = arrivals(LOG)
    assert described(found) == [("ab", "abc"), ("abcab", "b")]  # the first visit has no window
    assert found.as_of.tolist() == [at(NEXT), at(2 * NEXT)]


def test_an_item_is_worth_the_most_that_was_done_with_it_in_the_visit() -> None:
    log = [
        *visit("a", 0),
        Happened("ann", "a", NEXT, EventType.ADD_TO_CART),
        Happened("ann", "b", NEXT + 1, EventType.PURCHASE),
        Happened("ann", "a", NEXT + 2),
        Happened("ann", "c", NEXT + 3),
    ]
    [worth] = arrivals(log).worth_of_wanted()
    kinds = (EventType.ADD_TO_CART, EventType.PURCHASE, EventType.VIEW)
    assert worth.tolist() == [EVENT_WORTH[kind.code] for kind in kinds]


def test_a_visit_that_shows_no_interest_is_no_request_and_neither_is_a_half_hour_of_silence() -> None:
    log = [
        *visit("a", 0),
        Happened("ann", None, NEXT, EventType.SEARCH),
        Happened("ann", "b", NEXT + 1, EventType.RETURN),
        *visit("c", NEXT + GAP),  # within half an hour
        Happened("ann", None, 3 * NEXT, EventType.SEARCH),
    ]
    assert described(arrivals(log)) == [("a", "c")]


def test_an_impression_begins_no_visit() -> None:
    log = [*visit("a", 0), Happened("ann", "b", NEXT - 20, EventType.IMPRESSION), *visit("c", NEXT)]
    found = arrivals(log)
    assert described(found) == [("a", "c")]
    assert found.as_of.tolist() == [at(NEXT)]


def test_visits_that_began_in_the_stretch_count_and_windows_may_begin_before_it() -> None:
    assert described(arrivals(LOG, start=at(NEXT), end=at(2 * NEXT))) == [("ab", "abc")]
    assert described(arrivals(LOG, start=at(NEXT + 1), end=at(3 * NEXT))) == [("abcab", "b")]


def test_windows_are_as_the_event_log_keeps_them() -> None:
    assert described(arrivals(LOG, window_size=2)) == [("ab", "abc"), ("ab", "b")]
    assert described(arrivals(LOG, ttl=(NEXT - 2) * MINUTE)) == [("cab", "b")]  # the first silence was longer
    assert described(arrivals(LOG, ttl=NEXT // 2 * MINUTE)) == []


def test_shoppers_come_in_the_order_of_time_each_with_a_window_of_its_own() -> None:
    log = [*visit("a", 0), *visit("b", 5, "bob"), *visit("c", NEXT + 50), *visit("d", NEXT, "bob")]
    assert described(arrivals(log)) == [("b", "d"), ("a", "c")]


def test_an_arrival_may_be_answered_with_the_item_that_was_seen_last() -> None:
    names = list(NAMES[:3])
    log = [Happened("ann", name, NEXT * number) for number, name in enumerate(names)]
    queries = arrivals(log).queries(tiny_bundle(), k=3)
    assert [query.excluded.tolist() for query in queries] == [[], []]
    assert all(isinstance(query, Query) and query.shopper.window.items.size for query in queries)


def test_only_who_did_something_a_moment_ago_is_in_a_session() -> None:
    log = [*visit("ab", 0), *visit("c", 1 + GAP), *visit("d", 2 + 2 * GAP)]
    requests = replay(encoded(log), NOON, END, 64, TTL)
    assert described(requests) == [("", "a"), ("a", "b"), ("ab", "c"), ("abc", "d")]
    assert in_session(requests).tolist() == [False, True, True, False]
    assert in_session(arrivals(LOG)).tolist() == [False, False]
    assert in_session(requests.without_windows()).tolist() == [False] * 4


def test_a_log_without_a_second_visit_has_no_arrivals() -> None:
    assert len(arrivals(visit("abc", 0))) == 0
    assert len(replay_arrivals(encoded([], items=["a"]), NOON, END, 64, TTL)) == 0


visits = st.builds(
    Happened,
    shopper=st.sampled_from(["ann", "bob", "v:x"]),
    item=st.sampled_from("abcd"),
    minute=st.integers(0, 400),
    type=st.sampled_from([EventType.VIEW, EventType.PURCHASE, EventType.IMPRESSION, EventType.RETURN]),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(visits, min_size=1, max_size=30))
def test_what_an_arrival_wants_came_later_and_what_it_knows_came_before(happened: list[Happened]) -> None:
    found = arrivals(happened)
    log = found.log
    for row in range(len(found)):
        start, stop = found.start[row], found.stop[row]
        assert start < stop
        assert (log.shopper[start:stop] == found.shopper[row]).all()
        assert found.as_of[row] == log.time[stop] > log.time[stop - 1] + SESSION_GAP
        wanted = found.wanted[found.offsets[row] : found.offsets[row + 1]]
        assert wanted.size == np.unique(wanted).size > 0
        later = (log.shopper == found.shopper[row]) & (log.time >= found.as_of[row])
        assert np.isin(wanted, log.item[later]).all()
