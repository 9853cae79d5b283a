"""The index of sessions: built by hand from what shoppers did."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import MINUTE, EventType
from feature_repo.session_features import SESSION_GAP
from serving.indexes import SessionIndex
from tests.training.tiny_log import Happened, at, encoded
from training import session_index as building
from training.session_index import LONGEST, SESSIONS_PER_ITEM, session_index

GAP = SESSION_GAP // MINUTE


def sessions_in(log: EncodedLog, index: SessionIndex) -> list[list[tuple[str, int]]]:
    """Items and steps of each session, the newest session first."""
    spans = zip(index.session_offsets[:-1], index.session_offsets[1:], strict=True)
    return [
        [
            (log.item_ids[item], int(step))
            for item, step in zip(
                index.session_items[start:stop], index.session_steps[start:stop], strict=True
            )
        ]
        for start, stop in spans
    ]


def built(*happened: Happened, items: tuple[str, ...] = ()) -> tuple[EncodedLog, SessionIndex]:
    log = encoded(happened, items)
    return log, session_index(log)


def test_a_silence_or_another_shopper_splits_sessions_and_the_newest_comes_first() -> None:
    log, index = built(
        Happened("ann", "a", 0),
        Happened("ann", "b", GAP),  # as long a silence as a session may have
        Happened("ann", "c", 2 * GAP + 1),
        Happened("bob", "d", GAP + 5),
    )
    assert sessions_in(log, index) == [[("c", 0)], [("d", 0)], [("a", 0), ("b", 1)]]
    assert index.session_time.tolist() == [at(2 * GAP + 1), at(GAP + 5), at(GAP)]


def test_a_reload_counts_once_and_a_return_to_an_item_does_not_collapse() -> None:
    log, index = built(*(Happened("ann", item, minute) for minute, item in enumerate("aabbba")))
    assert sessions_in(log, index) == [[("a", 0), ("b", 1), ("a", 2)]]
    assert index.item_sessions.tolist() == [0, 0]  # one of each of two items
    assert index.session_time.tolist() == [at(5)]


def test_the_same_item_first_in_the_next_session_is_no_reload() -> None:
    log, index = built(Happened("ann", "a", 0), Happened("ann", "a", GAP + 1), Happened("bob", "a", 0))
    assert sessions_in(log, index) == [[("a", 0)]] * 3


def test_items_of_one_moment_are_one_step() -> None:
    log, index = built(
        Happened("ann", "a", 0), Happened("ann", "b", 1), Happened("ann", "c", 1), Happened("ann", "d", 2)
    )
    assert sessions_in(log, index) == [[("a", 0), ("b", 1), ("c", 1), ("d", 2)]]


def test_steps_of_a_session_begin_at_nought_also_where_two_shoppers_act_at_once() -> None:
    log, index = built(*(Happened(shopper, item, 0) for shopper in ("ann", "bob") for item in "ab"))
    assert sessions_in(log, index) == [[("a", 0), ("b", 0)]] * 2


def test_what_shows_no_interest_is_in_no_session() -> None:
    log, index = built(
        Happened("ann", "a", 0),
        Happened("ann", "b", 1, EventType.IMPRESSION),
        Happened("ann", None, 2, EventType.SEARCH),
        Happened("ann", "c", 3, EventType.PURCHASE),
    )
    assert sessions_in(log, index) == [[("a", 0), ("c", 1)]]


def test_sessions_of_an_item_are_listed_the_newest_first_and_once_each() -> None:
    _, index = built(
        *(Happened("ann", item, minute) for minute, item in enumerate("aba")),
        *(Happened("bob", item, 10 + minute) for minute, item in enumerate("bc")),
        *(Happened("cyd", item, 20 + minute) for minute, item in enumerate("ac")),
        items=("never met",),
    )
    assert [index.sessions_of(item).tolist() for item in range(4)] == [[0, 2], [1, 2], [0, 1], []]


def test_rarity_is_the_log_of_the_inverse_share_of_sessions() -> None:
    _, index = built(
        Happened("ann", "a", 0), Happened("ann", "b", 1), Happened("bob", "a", 2), items=("never met",)
    )
    assert index.rarity == pytest.approx(np.log([3 / 3, 3 / 2, 3 / 1]))


def test_of_a_session_without_end_the_newest_items_are_kept() -> None:
    path = [Happened("robot", f"i{number:03}", number) for number in range(LONGEST + 3)]
    log, index = built(*path)
    [session] = sessions_in(log, index)
    assert session == [(f"i{number + 3:03}", number) for number in range(LONGEST)]
    assert index.session_time.tolist() == [at(LONGEST + 2)]
    assert index.sessions_of(0).tolist() == []


def test_of_an_items_sessions_the_newest_are_kept_and_all_count_for_its_rarity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(building, "SESSIONS_PER_ITEM", 2)
    visits = [Happened(f"s{number}", "a", number) for number in range(5)]
    _, index = built(*visits, Happened("z", "b", 9))
    assert index.sessions_of(0).tolist() == [1, 2]  # b's session is the newest
    assert index.sessions_of(1).tolist() == [0]
    assert index.rarity == pytest.approx(np.log([7 / 6, 7 / 2]))
    assert SESSIONS_PER_ITEM > 2


def test_an_empty_log_has_no_sessions() -> None:
    log, index = built(items=("a", "b"))
    assert sessions_in(log, index) == []
    assert index.sessions_of(1).tolist() == []
    assert index.rarity.tolist() == [0, 0]


visits = st.builds(
    Happened,
    shopper=st.sampled_from(["ann", "bob", "v:x"]),
    item=st.sampled_from("abcd"),
    minute=st.integers(0, 200),
    type=st.just(EventType.VIEW),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(visits, max_size=40))
def test_the_index_is_what_a_walk_through_the_log_finds(happened: list[Happened]) -> None:
    walked: list[list[Happened]] = []
    for shopper in sorted({what.shopper for what in happened}):
        own = sorted((what for what in happened if what.shopper == shopper), key=lambda what: what.minute)
        for number, what in enumerate(own):
            if not number or what.minute - own[number - 1].minute > GAP:
                walked.append([])
            if not walked[-1] or walked[-1][-1].item != what.item:
                walked[-1].append(what)
    log, index = built(*happened, items=("a", "b", "c", "d"))
    found = [
        (int(time), [item for item, _ in session])
        for time, session in zip(index.session_time, sessions_in(log, index), strict=True)
    ]
    expected = [(at(session[-1].minute), [what.item for what in session]) for session in walked]
    assert sorted(found) == sorted(expected)
    assert (np.diff(index.session_time) <= 0).all()
    for item, name in enumerate("abcd"):
        holders = [number for number, (_, session) in enumerate(found) if name in session]
        assert index.sessions_of(item).tolist() == holders
