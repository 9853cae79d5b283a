"""Statistics as of a moment, against values computed by hand on a log of a few events."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.batch_features import (
    ITEM_STATISTICS,
    USER_STATISTICS,
    first_and_last_seen,
    impute_prices,
    item_statistics,
    user_statistics,
)
from feature_repo.encoded_log import EncodedLog, encode_log
from feature_repo.events import LoggedEvent, to_table
from feature_repo.item_activity import PRIOR_WEIGHT
from feature_repo.schema import DAY, HOUR, INTERACTION_TYPES, SECOND, EventType
from tests.feature_repo.log_events import NOON, event

LAMP, MUG, POT, RUG = range(4)
ITEMS = np.array(["lamp", "mug", "pot", "rug"], dtype=object)
PRICES = np.array([30, 10, 5, 99], np.float32)
ANN, BOB, EVE = range(3)
LOG_SHARES = [column for column in ITEM_STATISTICS if "log" in column]


def before(age: int, shopper: str, event_type: str, item: str, value: float | None = None) -> LoggedEvent:
    """What a shopper did so many microseconds before noon."""
    return event(
        0,
        event_id=f"{shopper} {event_type} {item} {age}",
        timestamp=NOON - age,
        user_id=shopper,
        event_type=event_type,
        item_id=item,
        value=value,
    )


HISTORY = [
    before(40 * DAY, "ann", "view", "mug"),
    before(5 * DAY, "ann", "view", "mug"),
    before(5 * DAY - SECOND, "ann", "purchase", "mug"),
    before(12 * HOUR, "ann", "view", "lamp"),
    before(HOUR, "ann", "return", "mug"),
    before(3 * DAY, "bob", "rate", "mug", value=4.0),
    before(2 * DAY + SECOND, "bob", "impression", "mug"),
    before(2 * DAY + 2 * SECOND, "bob", "impression", "mug"),
    before(2 * DAY + 3 * SECOND, "bob", "impression", "lamp"),
    before(2 * DAY + 4 * SECOND, "bob", "impression", "lamp"),
    before(2 * DAY, "bob", "click", "lamp"),
    before(2 * DAY - SECOND, "bob", "add_to_cart", "lamp"),
]
FUTURE = [before(0, "eve", "purchase", "pot"), before(-HOUR, "ann", "add_to_cart", "rug")]


def encoded(events: list[LoggedEvent]) -> EncodedLog:
    return encode_log(to_table(events), ITEMS)


def statistics_of_item(item: int, events: list[LoggedEvent]) -> dict[str, float]:
    row = item_statistics(encoded(events), NOON)[item]
    return dict(zip(ITEM_STATISTICS, row.tolist(), strict=True))


def statistics_of_user(user: int, events: list[LoggedEvent]) -> dict[str, float]:
    row = user_statistics(encoded(events), NOON, PRICES)[user]
    return dict(zip(USER_STATISTICS, row.tolist(), strict=True))


def log_share(count: float, total: float) -> float:
    """Relative to the mean item, with one pseudo-count spread over the four items."""
    return log((count + 1 / 4) / (total + 1) * 4)


def smoothed(successes: float, trials: float, mean: float) -> float:
    return (successes + PRIOR_WEIGHT * mean) / (trials + PRIOR_WEIGHT)


def test_item_statistics_of_a_hand_made_log() -> None:
    assert statistics_of_item(MUG, HISTORY + FUTURE) == pytest.approx(
        {
            "item_log_share_1d": log_share(0, 1),
            "item_log_share_7d": log_share(3, 6),
            "item_log_share_30d": log_share(3, 6),
            "item_log_share": log_share(4, 7),
            "item_trend": 0,
            "item_log_purchase_share_30d": log_share(1, 1),
            "item_cart_rate": smoothed(0, 4, 1 / 7),
            "item_purchase_rate": smoothed(1, 4, 1 / 7),
            "item_click_rate": smoothed(0, 2, 1 / 4),
            "item_return_rate": 1,
            "item_repeat_rate": smoothed(2, 4, 3 / 7),
            "item_rating": 4,
        },
        rel=1e-6,
    )
    assert statistics_of_item(LAMP, HISTORY + FUTURE) == pytest.approx(
        {
            "item_log_share_1d": log_share(1, 1),
            "item_log_share_7d": log_share(3, 6),
            "item_log_share_30d": log_share(3, 6),
            "item_log_share": log_share(3, 7),
            "item_trend": 0,
            "item_log_purchase_share_30d": log_share(0, 1),
            "item_cart_rate": smoothed(1, 3, 1 / 7),
            "item_purchase_rate": smoothed(0, 3, 1 / 7),
            "item_click_rate": smoothed(1, 2, 1 / 4),
            "item_return_rate": 1,
            "item_repeat_rate": smoothed(1, 3, 3 / 7),
            "item_rating": 4,
        },
        rel=1e-6,
    )


def test_user_statistics_of_a_hand_made_log() -> None:
    log_prices = np.log1p([10, 10, 10, 30])
    assert statistics_of_user(ANN, HISTORY + FUTURE) == pytest.approx(
        {
            "user_log_interactions": log(1 + 4),
            "user_log_purchases": log(1 + 1),
            "user_cart_rate": smoothed(0, 4, 1 / 7),
            "user_purchase_rate": smoothed(1, 4, 1 / 7),
            "user_repeat_rate": smoothed(2, 4, 3 / 7),
            "user_mean_log_price": log_prices.mean(),
            "user_std_log_price": log_prices.std(),
            "user_log_days_known": log(1 + 40),
        },
        rel=1e-5,
    )


def test_a_shopper_who_always_pays_the_same_has_no_spread_of_prices() -> None:
    events = [before(age, "ann", "view", "mug") for age in range(1, 8)]
    assert statistics_of_user(ANN, events)["user_std_log_price"] == pytest.approx(0, abs=1e-6)


def test_a_trend_is_the_last_week_against_the_last_month() -> None:
    events = [before(age * DAY, "ann", "view", "mug") for age in (1, 20)]
    events += [before(age * DAY, "ann", "view", "lamp") for age in (20, 21)]
    statistics = statistics_of_item(MUG, events)
    assert statistics["item_trend"] == pytest.approx(log_share(1, 1) - log_share(2, 4))
    assert statistics_of_item(LAMP, events)["item_trend"] < 0 < statistics["item_trend"]


def test_what_happened_at_the_moment_or_after_it_changes_nothing() -> None:
    past, all_of_it = encoded(HISTORY), encoded(HISTORY + FUTURE)
    np.testing.assert_array_equal(item_statistics(past, NOON), item_statistics(all_of_it, NOON))
    known = user_statistics(all_of_it, NOON, PRICES)
    np.testing.assert_array_equal(user_statistics(past, NOON, PRICES), known[: len(past.shopper_keys)])
    for early, late in zip(
        first_and_last_seen(past, NOON), first_and_last_seen(all_of_it, NOON), strict=True
    ):
        np.testing.assert_array_equal(early, late)


def test_a_shopper_without_interactions_before_the_moment_has_a_row_of_nan() -> None:
    table = user_statistics(encoded(HISTORY + FUTURE), NOON, PRICES)
    assert np.isnan(table[EVE]).all()
    assert np.isfinite(table[[ANN, BOB]]).all()


def test_names_and_columns_agree_in_number_and_type() -> None:
    history = encoded(HISTORY)
    items, users = item_statistics(history, NOON), user_statistics(history, NOON, PRICES)
    assert items.shape == (len(ITEMS), len(ITEM_STATISTICS))
    assert users.shape == (len([ANN, BOB]), len(USER_STATISTICS))
    assert items.dtype == users.dtype == np.float32


def test_a_rate_nobody_was_tried_on_is_unknown_however_many_successes_there_are() -> None:
    """A shop that does not log impressions has clicks, but no click rate."""
    unseen = [logged for logged in HISTORY if logged.event_type != "impression"]
    assert np.isnan(statistics_of_item(LAMP, unseen)["item_click_rate"])
    unrated = [logged for logged in HISTORY if logged.event_type != "rate"]
    assert np.isnan(statistics_of_item(MUG, unrated)["item_rating"])


def test_statistics_of_an_empty_log_are_nowhere_infinite() -> None:
    assert not np.isinf(item_statistics(encoded(HISTORY).before(0), NOON)).any()


@given(st.integers(0, 2**32 - 1))
def test_log_shares_of_items_that_were_met_do_not_depend_on_how_much_is_logged(seed: int) -> None:
    random = np.random.default_rng(seed)
    ages = random.integers(1, 40 * DAY, 1000)
    ages[::2] %= DAY
    single = EncodedLog(
        shopper_keys=np.array([f"u:{n}" for n in range(20)], dtype=object),
        item_ids=ITEMS,
        shopper=np.sort(random.integers(0, 10, 1000)).astype(np.int32),
        item=random.integers(LAMP, RUG, 1000).astype(np.int32),
        type=random.choice([kind.code for kind in INTERACTION_TYPES], 1000).astype(np.int8),
        time=NOON - ages,
        price=np.full(1000, np.nan, np.float32),
        value=np.full(1000, np.nan, np.float32),
        identified=np.ones(1000, dtype=bool),
        row=np.arange(1000),
    )
    doubled = replace(
        single,
        shopper=np.concatenate([single.shopper, single.shopper + 10]),
        **{
            name: np.tile(getattr(single, name), 2)
            for name in ("item", "type", "time", "price", "value", "identified", "row")
        },
    )
    columns = [ITEM_STATISTICS.index(name) for name in LOG_SHARES]
    once, twice = item_statistics(single, NOON), item_statistics(doubled, NOON)
    np.testing.assert_allclose(once[:RUG, columns], twice[:RUG, columns], atol=0.02)


def test_an_item_nobody_met_ranks_below_every_other() -> None:
    table = item_statistics(encoded(HISTORY), NOON)
    column = table[:, ITEM_STATISTICS.index("item_log_share")]
    assert column[RUG] == column[POT] == pytest.approx(log_share(0, 7))
    assert column[RUG] < column[LAMP] < column[MUG]


def test_first_and_last_seen_count_interactions_alone() -> None:
    first, last = first_and_last_seen(encoded(HISTORY), NOON)
    assert first.tolist() == [NOON - 2 * DAY, NOON - 40 * DAY, -1, -1]
    assert last.tolist() == [NOON - 12 * HOUR, NOON - 3 * DAY, -1, -1]


def test_a_missing_price_becomes_the_median_of_its_category_or_else_of_the_shop() -> None:
    nan = np.nan
    prices = np.array([1, 3, 8, nan, 100, nan, nan], np.float32)
    categories = np.array([0, 0, 0, 0, 1, 2, -1], np.int32)
    filled = impute_prices(prices, categories)
    assert filled.tolist() == [1, 3, 8, 3, 100, 5.5, 5.5]
    assert filled.dtype == np.float32
    assert np.isnan(prices).sum() == 3


def test_where_no_price_is_known_all_are_zero() -> None:
    assert impute_prices(np.full(2, np.nan, np.float32), np.array([0, -1], np.int32)).tolist() == [0, 0]


@pytest.mark.parametrize("event_type", EventType)
def test_only_interactions_make_an_item_popular(event_type: EventType) -> None:
    shares = statistics_of_item(MUG, [before(HOUR, "ann", event_type.value, "mug")])
    expected = log_share(1, 1) if event_type in INTERACTION_TYPES else log_share(0, 0)
    assert shares["item_log_share_1d"] == pytest.approx(expected)
