"""Baskets: the next one of a customer, and the other half of one."""

from itertools import chain

import pytest

from feature_repo.schema import DAY, MINUTE, EventType
from feature_repo.settings import Settings
from tests.training.evaluation.asked import Described, described
from tests.training.tiny_log import Happened, at, encoded
from training.evaluation.baskets import basket_completion, next_basket, page_of_basket
from training.evaluation.requests import Requests

SETTINGS = Settings()
CUT = 1000
"""Minute from which on is tested."""
END = CUT + 1000


def bought(shopper: str, items: str, minute: float) -> list[Happened]:
    """A basket, a purchase for each letter."""
    return [Happened(shopper, item, minute, EventType.PURCHASE) for item in items]


def next_baskets(*log: list[Happened]) -> Requests:
    return next_basket(encoded(list(chain(*log))), at(CUT), at(END), SETTINGS)


def completions(*log: list[Happened], settings: Settings = SETTINGS) -> Requests:
    return basket_completion(encoded(list(chain(*log))), at(CUT), at(END), settings)


HISTORY = [*bought("ann", "ab", 0), Happened("ann", "c", 500), *bought("bob", "cdef", 10)]


def test_a_customer_is_asked_once_for_all_that_is_bought() -> None:
    asked = next_baskets(
        HISTORY, [Happened("ann", "d", CUT)], bought("ann", "bc", CUT + 1), bought("ann", "ca", CUT + 300)
    )
    assert described(asked.replay) == [Described("u:ann", "abc", "", "abc")]
    assert asked.replay.as_of.tolist() == [at(CUT)]


def test_what_a_customer_only_looks_at_or_buys_too_late_is_not_wanted() -> None:
    asked = next_baskets(
        HISTORY, [Happened("ann", "d", CUT)], bought("ann", "e", END), bought("bob", "a", CUT)
    )
    assert [(one.shopper, one.wanted) for one in described(asked.replay)] == [("u:bob", "a")]


def test_only_users_who_bought_before_are_customers() -> None:
    looked = [Happened("cy", "a", 0)]
    asked = next_baskets(
        HISTORY, looked, bought("v:x", "a", 0), *(bought(who, "b", CUT + 1) for who in ("ann", "cy", "v:x"))
    )
    assert [one.shopper for one in described(asked.replay)] == ["u:ann"]


def test_items_that_nobody_had_met_are_no_part_of_a_basket_that_is_wanted() -> None:
    asked = next_baskets(HISTORY, bought("ann", "ayz", CUT), bought("bob", "z", CUT))
    assert [(one.shopper, one.wanted) for one in described(asked.replay)] == [("u:ann", "a")]
    assert asked.ceiling == 1 / 4


def test_a_customer_whose_window_was_forgotten_is_asked_for_all_the_same() -> None:
    cut = int(SETTINGS.window_ttl_days * DAY // MINUTE) + 600
    log = encoded([*HISTORY, *bought("ann", "a", cut + 5), *bought("bob", "c", cut + 5)])
    asked = next_basket(log, at(cut), at(cut + 10), SETTINGS)
    assert [(one.shopper, one.window) for one in described(asked.replay)] == [("u:ann", ""), ("u:bob", "")]


def test_a_window_before_a_basket_holds_the_newest_events() -> None:
    log = [Happened("ann", item, minute) for minute, item in enumerate("abcdef")]
    few = SETTINGS.model_copy(update={"window_size": 2})
    purchases = [*bought("ann", "a", 50), *bought("ann", "b", CUT)]
    asked = next_basket(encoded([*log, *purchases]), at(CUT), at(END), few)
    assert [one.window for one in described(asked.replay)] == ["fa"]


def test_half_of_a_basket_is_shown_and_the_other_half_is_wanted() -> None:
    asked = completions(HISTORY, bought("ann", "abcdf", CUT))
    [one] = described(asked.replay)
    assert sorted(one.excluded + one.wanted) == list("abcdf")
    assert (len(one.excluded), len(one.wanted)) == (2, 3)
    assert one.window == "abc" + one.excluded


def test_the_page_of_a_basket_shows_one_item_that_is_only_looked_at_and_wants_the_others() -> None:
    log = encoded([*HISTORY, *bought("ann", "abcdf", CUT)])
    asked = page_of_basket(log, at(CUT), at(END), SETTINGS).replay
    [one] = described(asked)
    assert len(one.excluded) == 1
    assert sorted(one.excluded + one.wanted) == list("abcdf")
    assert one.window == "abc" + one.excluded
    assert asked.window(0).types.tolist() == [
        kind.code for kind in (EventType.PURCHASE, EventType.PURCHASE, EventType.VIEW, EventType.VIEW)
    ]


def test_from_history_alone_nothing_is_seen_of_the_basket_and_the_same_is_excluded() -> None:
    asked = completions(HISTORY, bought("ann", "abcd", CUT), bought("bob", "ef", CUT))
    assert asked.from_history is not None
    seen, blind = described(asked.replay), described(asked.from_history)
    assert [one.window for one in blind] == ["abc", "cdef"]
    assert [one._replace(window="") for one in seen] == [one._replace(window="") for one in blind]
    assert asked.replay.as_of.tolist() == asked.from_history.as_of.tolist()


def test_the_same_half_is_shown_again_and_not_always_the_first() -> None:
    baskets = [bought("ann", "abcdef", CUT + 60 * number) for number in range(9)]
    first, again = (described(completions(HISTORY, *baskets).replay) for _ in range(2))
    assert first == again
    assert len({one.excluded for one in first}) > 3


def test_what_was_looked_at_on_the_way_to_the_purchase_gives_nothing_away() -> None:
    on_the_way = [Happened("ann", item, CUT + place) for place, item in enumerate("aebf")]
    asked = completions(HISTORY, on_the_way, bought("ann", "ab", CUT + 5))
    [one] = described(asked.replay)
    assert one.window == "abc" + one.excluded


def test_a_basket_is_what_a_session_buys_and_one_of_a_single_known_item_has_no_halves() -> None:
    asked = completions(
        HISTORY,
        bought("ann", "a", CUT),
        bought("ann", "b", CUT + 20),
        bought("bob", "a", CUT),
        bought("bob", "b", CUT + 90),
    )
    assert [one.shopper for one in described(asked.replay)] == ["u:ann"]
    with_unknown = completions(HISTORY, bought("ann", "aaz", CUT), bought("bob", "abz", CUT))
    assert [one.shopper for one in described(with_unknown.replay)] == ["u:bob"]
    assert with_unknown.ceiling == 2 / 5


def test_an_earlier_basket_is_history_of_the_next_in_the_order_it_was_bought_in() -> None:
    asked = completions(HISTORY, bought("ann", "ba", CUT), bought("ann", "cd", CUT + 100))
    assert asked.from_history is not None
    assert [one.window for one in described(asked.from_history)] == ["abc", "abcba"]


def test_a_window_keeps_its_size_with_the_shown_half_in_it() -> None:
    few = SETTINGS.model_copy(update={"window_size": 4})
    asked = completions(HISTORY, bought("ann", "abcdef", CUT), settings=few)
    [one] = described(asked.replay)
    assert one.window == "c" + one.excluded


def test_a_visitor_without_history_has_baskets_too() -> None:
    asked = completions(HISTORY, bought("v:x", "ab", CUT))
    [one] = described(asked.replay)
    assert (one.shopper, one.window) == ("v:x", one.excluded)


@pytest.mark.parametrize("log", [HISTORY, [*HISTORY, *bought("ann", "a", CUT)]])
def test_without_baskets_there_is_nothing_to_complete(log: list[Happened]) -> None:
    asked = completions(log)
    assert len(asked) == 0
    assert len(asked.sample(10, seed=1)) == 0
