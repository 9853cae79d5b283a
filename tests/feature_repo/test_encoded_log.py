"""The archive as integer columns: who did what, in which order."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.encoded_log import EncodedLog, encode_log, resolve_shoppers
from feature_repo.events import LoggedEvent, to_table
from feature_repo.schema import EVENT_SCHEMA, SECOND, EventType
from feature_repo.session_features import SESSION_GAP, UNKNOWN_ITEM
from tests.feature_repo.log_events import NOON, event, histories, impression

ITEMS = np.array(["i1", "i2", "i3"], dtype=object)


def encoded(*events: LoggedEvent) -> EncodedLog:
    return encode_log(to_table(events), ITEMS)


def shuffled(events: list[LoggedEvent], seed: int = 3) -> list[LoggedEvent]:
    return random.Random(seed).sample(events, len(events))


def test_columns_of_a_hand_made_log() -> None:
    log = encoded(
        event(2, user_id="bob", event_type="purchase", item_id="i3", price=9.5),
        event(1, user_id="ann", item_id="i2"),
        event(3, user_id="ann", event_type="rate", item_id="i1", value=4.0),
        event(0, user_id="bob", event_type="search", item_id=None),
    )
    assert log.shopper_keys.tolist() == ["u:ann", "u:bob"]
    assert log.item_ids.tolist() == ["i1", "i2", "i3"]
    assert log.shopper.tolist() == [0, 0, 1, 1]
    assert log.item.tolist() == [1, 0, UNKNOWN_ITEM, 2]
    assert log.type.tolist() == [
        code.code for code in (EventType.VIEW, EventType.RATE, EventType.SEARCH, EventType.PURCHASE)
    ]
    assert log.time.tolist() == [NOON + second * SECOND for second in (1, 3, 0, 2)]
    np.testing.assert_array_equal(log.price, np.array([np.nan, np.nan, np.nan, 9.5], np.float32))
    np.testing.assert_array_equal(log.value, np.array([np.nan, 4, np.nan, np.nan], np.float32))
    assert log.row.tolist() == [1, 2, 3, 0]
    assert log.offsets().tolist() == [0, 2, 4]


def test_events_of_one_moment_are_ordered_by_id() -> None:
    tied = [event(number, timestamp=NOON, item_id=f"i{number}") for number in (2, 3, 1)]
    assert encoded(*tied).item.tolist() == [0, 1, 2]


@settings(deadline=None)
@given(histories(), st.integers(0, 100))
def test_events_are_sorted_by_shopper_then_time_then_id_however_they_came(
    events: list[LoggedEvent], seed: int
) -> None:
    came = shuffled(events, seed)
    log = encode_log(to_table(came), ITEMS)
    order = [(int(log.shopper[i]), int(log.time[i]), came[log.row[i]].event_id) for i in range(len(log))]
    assert order == sorted(order)
    assert sorted(log.row.tolist()) == list(range(len(events)))
    assert log.shopper_keys.tolist() == sorted(set(resolve_shoppers(to_table(came))[0]))
    np.testing.assert_array_equal(log.time, encode_log(to_table(events), ITEMS).time)


@settings(deadline=None)
@given(histories())
def test_a_visitors_events_go_to_the_user_of_its_newest_event_that_names_both(
    events: list[LoggedEvent],
) -> None:
    def expected(logged: LoggedEvent) -> str:
        links = [
            (other.timestamp, other.event_id, other.user_id)
            for other in events
            if other.user_id and other.visitor_id == logged.visitor_id
        ]
        user = logged.user_id or (max(links)[2] if logged.visitor_id and links else None)
        return f"u:{user}" if user else f"v:{logged.visitor_id}"

    in_order = sorted(events, key=lambda logged: (logged.timestamp, logged.event_id))
    assert resolve_shoppers(to_table(in_order))[0].tolist() == [expected(logged) for logged in in_order]


def test_what_a_visitor_did_before_the_login_belongs_to_the_user() -> None:
    log = encoded(
        event(3, visitor_id="phone", item_id="i3"),
        event(2, visitor_id="phone", user_id="ann", item_id="i2"),
        event(1, visitor_id="phone", item_id="i1"),
        event(4, visitor_id="somebody else's", item_id="i1"),
    )
    assert log.shopper_keys.tolist() == ["u:ann", "v:somebody else's"]
    assert log.item[log.shopper == 0].tolist() == [0, 1, 2]


def test_an_event_that_names_a_user_stays_with_that_user_after_another_logged_in() -> None:
    keys, identified = resolve_shoppers(
        to_table(
            [
                event(1, visitor_id="tablet", user_id="ann"),
                event(2, visitor_id="tablet", user_id="bob"),
                event(3, visitor_id="tablet"),
            ]
        )
    )
    assert keys.tolist() == ["u:ann", "u:bob", "u:bob"]
    assert identified.all()


def test_what_a_visitor_did_before_its_first_login_could_not_be_known_as_the_user_s_then() -> None:
    _, identified = resolve_shoppers(
        to_table(
            [
                event(1, visitor_id="tablet"),
                event(2, visitor_id="tablet", user_id="ann"),
                event(3, visitor_id="tablet"),
                event(1, visitor_id="never logs in"),
            ]
        )
    )
    assert identified.tolist() == [False, True, True, True]


def test_a_log_without_a_single_login_keeps_its_visitors() -> None:
    events = [event(1, visitor_id="phone"), event(2, visitor_id="laptop")]
    assert resolve_shoppers(to_table(events))[0].tolist() == ["v:phone", "v:laptop"]


def test_an_item_outside_the_vocabulary_is_unknown_and_so_is_no_interaction() -> None:
    log = encoded(event(1, item_id="gone"), event(2, item_id="i2"))
    assert log.item.tolist() == [UNKNOWN_ITEM, 1]
    assert log.interactions().item.tolist() == [1]


def test_impressions_stay_but_are_no_interactions() -> None:
    log = encoded(impression(1), event(2))
    assert log.type.tolist() == [EventType.IMPRESSION.code, EventType.VIEW.code]
    assert log.interactions().row.tolist() == [1]


def test_before_a_moment_excludes_the_moment() -> None:
    log = encoded(*(event(second) for second in (1, 2, 3)))
    assert log.before(NOON + 2 * SECOND).row.tolist() == [0]


def test_a_window_is_a_shoppers_stretch_of_the_log() -> None:
    log = encoded(event(1, user_id="bob"), event(2, user_id="bob"), event(3, user_id="ann"))
    start, stop = log.offsets()[1:]
    window = log.window(int(start), int(stop))
    assert window.items.tolist() == [0, 1]
    assert window.times.tolist() == [NOON + SECOND, NOON + 2 * SECOND]
    assert window.types.tolist() == [EventType.VIEW.code] * 2


def test_a_silence_of_more_than_half_an_hour_or_another_shopper_starts_a_new_session() -> None:
    gap = SESSION_GAP // SECOND
    ann = [event(second, event_id=f"a{second}") for second in (0, 1, 1 + gap, 2 + 2 * gap)]
    bob = [event(second, event_id=f"b{second}", user_id="bob") for second in (2 + 2 * gap, 3 + 2 * gap)]
    assert encoded(*ann, *bob).session().tolist() == [0, 0, 0, 1, 2, 2]


def test_an_empty_archive_is_an_empty_log() -> None:
    log = encode_log(EVENT_SCHEMA.empty_table(), ITEMS)
    assert len(log) == 0
    assert log.session().tolist() == []
    assert log.shopper_keys.tolist() == []
    assert log.offsets().tolist() == [0]


@pytest.mark.parametrize("chunks", [1, 3])
def test_a_log_read_in_pieces_is_the_same_log(chunks: int) -> None:
    events = [event(number, user_id="ann" if number % 2 else "bob") for number in range(6)]
    pieces = [to_table(events[piece::chunks]) for piece in range(chunks)]
    log = encode_log(pa.concat_tables(pieces), ITEMS)
    np.testing.assert_array_equal(log.time, encoded(*events).time)
    np.testing.assert_array_equal(log.shopper, encoded(*events).shopper)
