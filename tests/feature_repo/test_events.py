"""An event as it travels: the same in a request, in the log and in the archive."""

from collections.abc import Mapping

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.events import FIELD_NAMES, LoggedEvent, to_table
from feature_repo.schema import EVENT_SCHEMA, MAX_ID_LENGTH, Event, EventType
from tests.feature_repo.log_events import HOSTILE_IDS, NOON, event

OPTIONAL_TEXT = (
    Event.ITEM,
    Event.SESSION,
    Event.PLACEMENT,
    Event.REQUEST,
    Event.QUERY,
    Event.CAMPAIGN,
    Event.PROPERTIES,
)
OPTIONAL_NUMBERS = (Event.QUANTITY, Event.PRICE, Event.VALUE)

ids = st.sampled_from(HOSTILE_IDS) | st.text(
    st.characters(exclude_categories=["Cs"], min_codepoint=32), min_size=1, max_size=MAX_ID_LENGTH
)
numbers = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def logged_events(draw: st.DrawFn) -> LoggedEvent:
    """Any event at all that the log may hold."""
    optional: Mapping[str, st.SearchStrategy[object]] = {
        Event.VISITOR: ids,
        Event.POSITION: st.integers(0, 2**31 - 1),
        **dict.fromkeys(OPTIONAL_TEXT, ids),
        **dict.fromkeys(OPTIONAL_NUMBERS, numbers),
    }
    return event(
        draw(st.integers(0, 999)),
        event_type=draw(st.sampled_from(EventType)).value,
        event_id=draw(ids),
        user_id=draw(ids),
        timestamp=draw(st.integers(-(2**60), 2**60)),
        **{name: draw(st.none() | values) for name, values in optional.items()},
    )


def test_an_event_has_the_columns_of_the_log_in_their_order() -> None:
    assert list(FIELD_NAMES) == EVENT_SCHEMA.names


@settings(deadline=None)
@given(logged_events())
def test_an_event_survives_json(logged: LoggedEvent) -> None:
    assert LoggedEvent.from_json(logged.to_json()) == logged


def test_json_leaves_out_what_is_absent_and_keeps_what_is_zero() -> None:
    assert orjson.loads(event(0, quantity=0.0, query="").to_json()) == {
        "event_id": "e000",
        "event_type": "view",
        "user_id": "ann",
        "item_id": "i0",
        "timestamp": NOON,
        "arrival_time": NOON,
        "query": "",
        "quantity": 0.0,
    }


@settings(deadline=None)
@given(st.lists(logged_events(), max_size=5))
def test_a_table_has_a_row_per_event_in_the_order_given(events: list[LoggedEvent]) -> None:
    table = to_table(events)
    assert table.schema.equals(EVENT_SCHEMA)
    table = table.set_column(
        table.column_names.index(Event.TIMESTAMP), Event.TIMESTAMP, table[Event.TIMESTAMP].cast("int64")
    )
    table = table.set_column(
        table.column_names.index(Event.ARRIVAL), Event.ARRIVAL, table[Event.ARRIVAL].cast("int64")
    )
    assert [LoggedEvent(**row) for row in table.to_pylist()] == events


def test_an_event_goes_to_its_user_and_only_without_one_to_its_visitor() -> None:
    assert event(1, user_id="ann", visitor_id="phone").shopper == "u:ann"
    assert event(1, user_id=None, visitor_id="phone").shopper == "v:phone"
    with pytest.raises(ValueError, match="user_id or a visitor_id"):
        _ = event(1, user_id=None, visitor_id=None).shopper


def test_the_code_of_an_event_type_never_changes() -> None:
    assert [event_type.value for event_type in EventType] == [
        "impression",
        "view",
        "click",
        "add_to_cart",
        "remove_from_cart",
        "favorite",
        "purchase",
        "return",
        "rate",
        "search",
        "redeem",
    ]
    assert [event_type.code for event_type in EventType] == list(range(11))
