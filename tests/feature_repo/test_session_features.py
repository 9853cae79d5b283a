"""Session features: known answers for hand-made windows, and what holds for every window."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.schema import HOUR, INTERACTION_TYPES, MINUTE, SECOND, EventType
from feature_repo.session_features import (
    SESSION_FEATURES,
    SESSION_GAP,
    UNKNOWN_ITEM,
    Window,
    encode_window,
    moments_back,
    recent_items,
    session_features,
)
from feature_repo.session_window import WindowEvent
from tests.feature_repo.log_events import NOON

MUG, LAMP = 0, 1
VIEW, CART, PURCHASE, SEARCH = (
    EventType.VIEW,
    EventType.ADD_TO_CART,
    EventType.PURCHASE,
    EventType.SEARCH,
)


def window(*events: tuple[int, EventType, int]) -> Window:
    """A window of (microseconds after noon, type, item)."""
    return Window(
        np.array([item for _, _, item in events], np.int32),
        np.array([event_type.code for _, event_type, _ in events], np.int8),
        np.array([NOON + after for after, _, _ in events], np.int64),
    )


def named(features: np.ndarray) -> dict[str, float]:
    return dict(zip(SESSION_FEATURES, features.tolist(), strict=True))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Any window, some of its events up to 5 minutes after noon."""
    events = draw(
        st.lists(
            st.tuples(
                st.integers(-100 * HOUR, 5 * MINUTE), st.sampled_from(EventType), st.integers(UNKNOWN_ITEM, 3)
            ),
            max_size=12,
        )
    )
    return window(*sorted(events))


def test_known_answers_for_a_hand_made_window() -> None:
    shopper = window(
        (-3 * HOUR, PURCHASE, MUG),
        (-3 * HOUR + MINUTE, VIEW, LAMP),
        (-20 * MINUTE, VIEW, MUG),
        (-19 * MINUTE, SEARCH, UNKNOWN_ITEM),
        (-18 * MINUTE, VIEW, LAMP),
        (-17 * MINUTE, CART, LAMP),
        (-16 * MINUTE, VIEW, UNKNOWN_ITEM),
    )
    assert named(session_features(shopper, NOON)) == pytest.approx(
        {
            "session_interactions": 3,
            "session_distinct_items": 2,
            "session_carts": 1,
            "session_purchases": 0,
            "session_searches": 1,
            "session_log_seconds": math.log(1 + 4 * 60),
            "window_interactions": 5,
            "window_purchases": 1,
            "log_seconds_since_last": math.log(1 + 16 * 60),
        },
        rel=1e-6,
    )


@pytest.mark.parametrize(("silence", "sessions_events"), [(SESSION_GAP, 2), (SESSION_GAP + 1, 1)])
def test_a_silence_of_more_than_half_an_hour_starts_a_new_session(silence: int, sessions_events: int) -> None:
    shopper = window((-silence, VIEW, MUG), (0, VIEW, LAMP))
    assert named(session_features(shopper, NOON))["session_interactions"] == sessions_events


def test_a_session_goes_on_for_hours_as_long_as_no_silence_is_longer() -> None:
    shopper = window(*((-minutes * MINUTE, VIEW, MUG) for minutes in range(200, 0, -25)))
    features = named(session_features(shopper, NOON))
    assert features["session_interactions"] == 8
    assert features["session_log_seconds"] == pytest.approx(math.log(1 + 175 * 60))


@pytest.mark.parametrize(("silence", "in_session"), [(SESSION_GAP, 1), (SESSION_GAP + 1, 0)])
def test_half_an_hour_after_the_last_event_the_session_is_over(silence: int, in_session: int) -> None:
    features = named(session_features(window((0, VIEW, MUG)), NOON + silence))
    assert features["session_interactions"] == in_session
    assert features["window_interactions"] == 1


def test_only_the_newest_session_counts_and_the_rest_stays_as_history() -> None:
    shopper = window((-5 * HOUR, VIEW, MUG), (-2 * HOUR, VIEW, MUG), (-MINUTE, VIEW, LAMP))
    features = named(session_features(shopper, NOON))
    assert features["session_interactions"] == 1
    assert features["window_interactions"] == 3


def test_an_empty_window_counts_nothing_and_knows_no_last_event() -> None:
    features = named(session_features(window(), NOON))
    assert math.isnan(features.pop("log_seconds_since_last"))
    assert set(features.values()) == {0}


def test_an_event_of_the_future_counts_as_of_now() -> None:
    features = named(session_features(window((4 * MINUTE, VIEW, MUG)), NOON))
    assert features["log_seconds_since_last"] == 0
    assert features["session_interactions"] == 1


@settings(deadline=None)
@given(windows())
def test_features_of_a_window_are_finite_float32_whatever_the_clocks_say(shopper: Window) -> None:
    features = session_features(shopper, NOON)
    assert features.dtype == np.float32
    assert features.shape == (len(SESSION_FEATURES),)
    known = features if shopper.times.size else features[:-1]
    assert np.isfinite(known).all()
    assert (known >= 0).all()


@settings(deadline=None)
@given(windows())
def test_features_leave_the_window_as_it_was_and_come_out_the_same_again(shopper: Window) -> None:
    before = [column.copy() for column in (shopper.items, shopper.types, shopper.times)]
    first = session_features(shopper, NOON)
    second = session_features(shopper, NOON)
    np.testing.assert_array_equal(first, second)
    for column, copy in zip((shopper.items, shopper.types, shopper.times), before, strict=True):
        np.testing.assert_array_equal(column, copy)


@settings(deadline=None)
@given(windows(), st.integers(-(10**9) * SECOND, 10**9 * SECOND))
def test_only_time_differences_matter(shopper: Window, shift: int) -> None:
    moved = Window(shopper.items, shopper.types, shopper.times + shift)
    np.testing.assert_array_equal(session_features(moved, NOON + shift), session_features(shopper, NOON))


def test_moments_are_counted_back_from_the_newest_and_events_of_one_moment_are_one() -> None:
    shopper = window((0, VIEW, MUG), (1, CART, MUG), (1, CART, LAMP), (5, VIEW, MUG), (5, VIEW, LAMP))
    assert moments_back(shopper).tolist() == [2, 1, 1, 0, 0]
    assert moments_back(window((0, VIEW, MUG))).tolist() == [0]
    assert moments_back(window()).tolist() == []
    assert moments_back(shopper).dtype == np.int64


@settings(deadline=None)
@given(windows())
def test_moments_back_are_the_number_of_distinct_later_times(shopper: Window) -> None:
    times = shopper.times.tolist()
    assert moments_back(shopper).tolist() == [len({t for t in times if t > time}) for time in times]


@pytest.mark.parametrize("event_type", EventType)
def test_an_interaction_is_what_shows_interest_in_a_known_item(event_type: EventType) -> None:
    shopper = window((-MINUTE, event_type, MUG), (0, event_type, UNKNOWN_ITEM))
    expected = [MUG] if event_type in INTERACTION_TYPES else []
    assert shopper.interactions().items.tolist() == expected


def test_impressions_searches_and_returns_show_no_interest() -> None:
    shopper = window(*((0, event_type, MUG) for event_type in EventType))
    assert {list(EventType)[code].value for code in shopper.interactions().types} == {
        "view",
        "click",
        "add_to_cart",
        "favorite",
        "purchase",
        "rate",
    }


def test_items_that_the_model_does_not_know_become_unknown() -> None:
    encoded = encode_window(
        [
            WindowEvent(NOON, "e1", "view", "mug"),
            WindowEvent(NOON + 1, "e2", "purchase", "sold by somebody else"),
            WindowEvent(NOON + 2, "e3", "search", None, "red mug"),
        ],
        {"lamp": LAMP, "mug": MUG},
    )
    assert encoded.items.tolist() == [MUG, UNKNOWN_ITEM, UNKNOWN_ITEM]
    assert encoded.types.tolist() == [VIEW.code, PURCHASE.code, SEARCH.code]
    assert encoded.times.tolist() == [NOON, NOON + 1, NOON + 2]
    assert [column.dtype for column in (encoded.items, encoded.types, encoded.times)] == [
        np.int32,
        np.int8,
        np.int64,
    ]


@settings(deadline=None)
@given(windows())
def test_session_features_are_counts_over_the_tail_without_a_silence(shopper: Window) -> None:
    events = list(zip(shopper.items.tolist(), shopper.types.tolist(), shopper.times.tolist(), strict=True))
    moments = [*shopper.times.tolist(), NOON]
    breaks = [place for place, (a, b) in enumerate(pairwise(moments), 1) if b - a > SESSION_GAP]
    session = events[max(breaks, default=0) :]
    codes = {kind.code for kind in INTERACTION_TYPES}
    active, history = (
        [(item, kind) for item, kind, _ in some if item != UNKNOWN_ITEM and kind in codes]
        for some in (session, events)
    )
    kinds = [kind for _, kind, _ in session]
    expected = [
        len(active),
        len({item for item, _ in active}),
        *(kinds.count(kind.code) for kind in (CART, PURCHASE, SEARCH)),
        math.log1p((session[-1][2] - session[0][2]) / SECOND) if session else 0,
        len(history),
        sum(kind == PURCHASE.code for _, kind in history),
        math.log1p(max(NOON - moments[-2], 0) / SECOND) if events else math.nan,
    ]
    np.testing.assert_allclose(session_features(shopper, NOON), expected, rtol=1e-6)


@settings(deadline=None)
@given(windows())
def test_recent_items_are_each_of_the_windows_once_as_it_was_met_last(shopper: Window) -> None:
    last = dict(zip(shopper.items.tolist(), moments_back(shopper).tolist(), strict=True))
    recent = recent_items(shopper)
    assert recent.items.tolist() == list(dict.fromkeys(shopper.items[::-1].tolist()))
    assert recent.steps.tolist() == [last[item] for item in recent.items.tolist()]
    assert recent.items.dtype == np.int32
    assert recent.steps.dtype == np.int64
