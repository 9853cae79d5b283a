"""Replay asks what shoppers would have asked: with what came before, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.encoded_log import EncodedLog, encode_log
from feature_repo.events import LoggedEvent, to_table
from feature_repo.schema import DAY, MINUTE, EventType
from feature_repo.session_features import SESSION_GAP, UNKNOWN_ITEM
from feature_repo.session_window import WindowEvent
from serving.query import Question
from tests.tiny_bundle import KNOWN_SHOPPER, NAMES, tiny_bundle
from tests.training.tiny_log import NOON, Happened, at, encoded, table
from training.replay import CHUNK, Replay, replay

TTL = 90 * DAY
END = at(10**7)

histories = st.lists(
    st.builds(
        Happened,
        shopper=st.sampled_from(["ann", "bob", "v:x"]),
        item=st.sampled_from("abcd"),
        minute=st.integers(0, 300),
        type=st.sampled_from([EventType.VIEW, EventType.PURCHASE, EventType.IMPRESSION, EventType.RETURN]),
    ),
    min_size=1,
    max_size=40,
)


def requests(happened: list[Happened], window_size: int = 64, ttl: int = TTL) -> Replay:
    return replay(encoded(happened), NOON, END, window_size, ttl)


def described(found: Replay) -> list[tuple[str, str]]:
    """Items of each window, and what was wanted."""
    names = found.log.item_ids
    return [
        (
            "".join("-" if code < 0 else names[code] for code in found.log.item[start:stop]),
            "".join(names[code] for code in found.wanted[first:last]),
        )
        for start, stop, first, last in zip(
            found.start, found.stop, found.offsets[:-1], found.offsets[1:], strict=True
        )
    ]


def path(items: str, shopper: str = "ann") -> list[Happened]:
    return [Happened(shopper, item, minute) for minute, item in enumerate(items)]


def test_every_interaction_is_asked_for_with_all_that_came_before_it() -> None:
    assert described(requests(path("abc"))) == [("", "a"), ("a", "b"), ("ab", "c")]
    assert described(requests(path("abc")).with_window()) == [("a", "b"), ("ab", "c")]


def test_a_window_holds_at_most_the_newest_events() -> None:
    assert described(requests(path("abcde"), window_size=2))[2:] == [("ab", "c"), ("bc", "d"), ("cd", "e")]


def test_a_window_has_no_impressions_but_all_other_events() -> None:
    log = [
        Happened("ann", "a", 0),
        Happened("ann", "b", 1, EventType.IMPRESSION),
        Happened("ann", None, 2, EventType.SEARCH),
        Happened("ann", "c", 3, EventType.REMOVE_FROM_CART),
        Happened("ann", "d", 4),
    ]
    assert described(requests(log)) == [("", "a"), ("a-c", "d")]


def test_shoppers_have_windows_of_their_own() -> None:
    log = [Happened("ann", "a", 0), Happened("bob", "b", 1), Happened("ann", "c", 2), Happened("bob", "d", 3)]
    found = requests(log)
    assert described(found) == [("", "a"), ("", "b"), ("a", "c"), ("b", "d")]
    assert [found.log.shopper_keys[code] for code in found.shopper] == ["u:ann", "u:bob", "u:ann", "u:bob"]


def test_what_a_visitor_did_before_its_first_login_is_no_request_but_stays_in_the_windows_after() -> None:
    def event(minute: int, item: str, user: str | None) -> LoggedEvent:
        return LoggedEvent(
            event_id=f"e{minute}",
            event_type="view",
            user_id=user,
            visitor_id="tablet",
            item_id=item,
            timestamp=at(minute),
            arrival_time=at(minute),
        )

    events = [event(0, "a", None), event(1, "b", None), event(2, "c", "ann"), event(3, "d", None)]
    log = encode_log(to_table(events), np.array(list("abcd"), dtype=object))
    assert described(replay(log, NOON, at(9), 64, TTL)) == [("ab", "c"), ("abc", "d")]


def test_a_window_forgets_what_was_before_a_silence_over_the_ttl() -> None:
    ttl = DAY // MINUTE
    log = [
        Happened("ann", "a", 0),
        Happened("ann", "b", ttl),
        Happened("ann", "c", 2 * ttl + 1),
        Happened("ann", "d", 2 * ttl + 2),
    ]
    assert described(requests(log, ttl=DAY)) == [("", "a"), ("a", "b"), ("", "c"), ("c", "d")]


def test_a_reload_is_no_target() -> None:
    log = [
        Happened("ann", "a", 0),
        Happened("ann", "a", 1),
        Happened("ann", None, 2, EventType.SEARCH),
        Happened("ann", "a", 3, EventType.ADD_TO_CART),
        Happened("ann", "b", 4),
        Happened("ann", "a", 5),
    ]
    assert [target for _, target in described(requests(log))] == ["a", "b", "a"]


@pytest.mark.parametrize("kind", [EventType.SEARCH, EventType.RETURN, EventType.REMOVE_FROM_CART])
def test_what_shows_no_interest_is_no_target(kind: EventType) -> None:
    item = None if kind == EventType.SEARCH else "b"
    assert described(requests([Happened("ann", "a", 0), Happened("ann", item, 1, kind)])) == [("", "a")]


def test_targets_lie_in_the_stretch_and_windows_may_begin_before_it() -> None:
    found = replay(encoded(path("abcd")), at(1), at(3), 64, TTL)
    assert described(found) == [("a", "b"), ("ab", "c")]


def test_a_slate_is_asked_for_at_the_newest_event_or_at_the_next_visit() -> None:
    gap = SESSION_GAP // MINUTE
    log = [Happened("ann", "a", 0), Happened("ann", "b", gap), Happened("ann", "c", 2 * gap + 1)]
    assert requests(log).as_of.tolist() == [at(0), at(0), at(2 * gap + 1)]


@settings(max_examples=30, deadline=None)
@given(histories, st.integers(1, 5))
def test_windows_hold_only_what_came_before_in_order(happened: list[Happened], size: int) -> None:
    found = requests(happened, window_size=size)
    log = found.log
    for start, stop, as_of in zip(found.start, found.stop, found.as_of, strict=True):
        assert 0 <= stop - start <= size
        assert (log.shopper[start:stop] == log.shopper[stop]).all()
        times = log.time[start : stop + 1]
        assert (np.diff(times) >= 0).all()
        assert (log.type[start:stop] != EventType.IMPRESSION.code).all()
        assert times[-2 if stop > start else -1] <= as_of <= times[-1]


@settings(max_examples=30, deadline=None)
@given(histories)
def test_a_replay_of_two_stretches_is_that_of_both_in_one(happened: list[Happened]) -> None:
    log = encoded(happened)
    both = replay(log, NOON, END, 64, TTL)
    parts = [replay(log, NOON, at(150), 64, TTL), replay(log, at(150), END, 64, TTL)]
    assert sorted(both.stop) == sorted([*parts[0].stop, *parts[1].stop])


def test_a_sample_keeps_the_order_and_is_drawn_again_by_the_same_seed() -> None:
    found = requests(path("abcd" * 50))
    sample = found.sample(20, seed=1)
    assert len(sample) == 20
    assert (np.diff(sample.stop) > 0).all()
    assert sample.stop.tolist() == found.sample(20, seed=1).stop.tolist()
    assert sample.stop.tolist() != found.sample(20, seed=2).stop.tolist()
    assert found.sample(10**6, seed=1) is found


def test_without_windows_the_same_targets_are_asked_for_with_nothing_known() -> None:
    found = requests(path("abc"))
    blind = found.without_windows()
    assert described(blind) == [("", "a"), ("", "b"), ("", "c")]
    assert blind.as_of.tolist() == found.as_of.tolist()
    assert blind.shopper.tolist() == found.shopper.tolist()


def shop_log(events: int = 600) -> list[Happened]:
    """The tiny shop's items, and one that its model does not know, met by shoppers known and unknown to it."""
    rng = np.random.default_rng(5)
    shoppers = [KNOWN_SHOPPER.removeprefix("u:"), "bob", "v:x"]
    items = [*NAMES, "unknown", None]
    kinds = [EventType.VIEW, EventType.ADD_TO_CART, EventType.PURCHASE, EventType.REMOVE_FROM_CART]
    log = []
    for minute in rng.choice(events * 20, events, replace=False):
        item = items[rng.integers(len(items))]
        kind = kinds[rng.integers(len(kinds))] if item else EventType.SEARCH
        log.append(Happened(shoppers[rng.integers(3)], item, int(minute), kind))
    return log


def raw_window(log: EncodedLog, happened: list[Happened], start: int, stop: int) -> list[WindowEvent]:
    """What the event log holds of these events, found by their rows in the archive."""
    rows = table(happened).take(log.row[start:stop]).to_pylist()
    return [
        WindowEvent(
            int(row["timestamp"].timestamp() * 1e6), row["event_id"], row["event_type"], row["item_id"]
        )
        for row in rows
    ]


def test_queries_of_a_replay_are_those_of_the_same_events_asked_online() -> None:
    bundle = tiny_bundle()
    happened = shop_log()
    found = requests(happened, window_size=8)
    queries = found.queries(bundle, k=7)
    assert len(queries) == len(found) > CHUNK
    for row, query in enumerate(queries):
        asked = Question(
            events=raw_window(found.log, happened, int(found.start[row]), int(found.stop[row])),
            shopper_key=found.log.shopper_keys[found.shopper[row]],
            as_of=int(found.as_of[row]),
            k=7,
        ).encode(bundle)
        assert (query.k, query.shopper.as_of, query.allowed) == (asked.k, asked.shopper.as_of, asked.allowed)
        np.testing.assert_array_equal(query.excluded, asked.excluded)
        for column in ("items", "types", "times"):
            replayed, online = (getattr(q.shopper.window, column) for q in (query, asked))
            np.testing.assert_array_equal(replayed, online)
            assert replayed.dtype == online.dtype
        np.testing.assert_array_equal(query.shopper.user.statistics, asked.shopper.user.statistics)
        np.testing.assert_array_equal(query.shopper.user.embedding, asked.shopper.user.embedding)
        np.testing.assert_array_equal(query.shopper.user.history.items, asked.shopper.user.history.items)


def test_what_is_wanted_is_in_the_indexes_of_the_bundle() -> None:
    found = requests([Happened("ann", "lamp", 0), Happened("ann", "unknown", 1), Happened("ann", "mug", 2)])
    expected = [[NAMES.index("lamp")], [UNKNOWN_ITEM], [NAMES.index("mug")]]
    assert [wanted.tolist() for wanted in found.wanted_in(tiny_bundle())] == expected
    assert found.take(np.zeros(0, np.int64)).wanted_in(tiny_bundle()) == []


def baskets() -> Replay:
    """Four requests of ann, who then wants two items, none, one and three."""
    found = requests(path("abcd"))
    offsets = np.array([0, 2, 2, 3, 6])
    worth = np.array([1, 2, 3, 1, 2, 3], np.int32)
    return replace(found, wanted=np.array([0, 1, 2, 3, 0, 1], np.int32), offsets=offsets, worth=worth)


def test_a_request_may_want_several_items() -> None:
    assert described(baskets()) == [("", "ab"), ("a", ""), ("ab", "c"), ("abc", "dab")]
    log = [Happened("ann", item, minute) for minute, item in enumerate(["lamp", "unknown", "mug"])]
    found = replace(requests(log), wanted=np.array([0, 2, 1, 0], np.int32), offsets=np.array([0, 2, 3, 4]))
    lamp, mug = NAMES.index("lamp"), NAMES.index("mug")
    wanted = [items.tolist() for items in found.wanted_in(tiny_bundle())]
    assert wanted == [[lamp, UNKNOWN_ITEM], [mug], [lamp]]


@given(st.lists(st.integers(0, 3), max_size=6))
def test_requests_that_are_taken_want_what_they_wanted(rows: list[int]) -> None:
    all_four = described(baskets())
    all_worth = [worth.tolist() for worth in baskets().worth_of_wanted()]
    taken = baskets().take(np.array(rows, np.int64))
    assert described(taken) == [all_four[row] for row in rows]
    assert [worth.tolist() for worth in taken.worth_of_wanted()] == [all_worth[row] for row in rows]
    assert taken.offsets.dtype == np.int64


def test_requests_want_only_what_is_worth_it_and_those_that_then_want_nothing_are_left_out() -> None:
    found = baskets().wanting(np.array([True, False, False, True]))
    assert described(found) == [("", "a"), ("abc", "da")]
    assert found.as_of.tolist() == baskets().as_of[[0, 3]].tolist()
    assert [worth.tolist() for worth in found.worth_of_wanted()] == [[1], [1, 2]]


def test_what_is_bought_is_worth_more_than_what_is_carted_and_that_more_than_a_look() -> None:
    kinds = [EventType.VIEW, EventType.PURCHASE, EventType.ADD_TO_CART, EventType.CLICK, EventType.FAVORITE]
    found = requests(
        [Happened("ann", item, n, kind) for n, (item, kind) in enumerate(zip("abcda", kinds, strict=True))]
    )
    assert np.concatenate(found.worth_of_wanted()).tolist() == [1, 3, 2, 1, 2]
    unknown = replace(found, worth=None)
    assert np.concatenate(unknown.worth_of_wanted()).tolist() == [1] * 5


def test_what_may_not_be_shown_is_the_newest_item_unless_a_request_says_otherwise() -> None:
    found = requests(path("abcd"))
    assert [found.excluded_items(row).tolist() for row in range(4)] == [[], [0], [1], [2]]
    spans = np.array([[0, 0], [0, 1], [0, 2], [1, 3]])
    said = replace(found, excluded=spans)
    assert [said.excluded_items(row).tolist() for row in range(4)] == [[], [0], [0, 1], [1, 2]]
    assert said.take(np.array([3])).excluded_items(0).tolist() == [1, 2]


def test_a_query_excludes_in_the_indexes_of_the_bundle() -> None:
    log = [Happened("ann", item, minute) for minute, item in enumerate(["lamp", "unknown", "mug", "desk"])]
    found = replace(requests(log), excluded=np.array([[0, 0], [0, 1], [0, 2], [0, 3]]))
    queries = found.queries(tiny_bundle(), k=3)
    lamp, mug = NAMES.index("lamp"), NAMES.index("mug")
    assert [query.excluded.tolist() for query in queries] == [[], [lamp], [lamp], [lamp, mug]]
