"""What goes with an item is what is bought with it more than chance lets expect."""

import numpy as np

from feature_repo.schema import EventType
from tests.training.tiny_log import Happened, encoded
from training.bought_together import LARGEST_BASKET, bought_together

BUY = EventType.PURCHASE
DAY = 24 * 60


def baskets(*contents: str) -> list[Happened]:
    """A basket of each text's words, each bought by another shopper."""
    return [
        Happened(f"shopper-{number}", item, number * DAY, BUY)
        for number, content in enumerate(contents)
        for item in content.split()
    ]


def complements(happened: list[Happened], item: str) -> list[str]:
    """The complements of an item, best first."""
    log = encoded(happened)
    names = log.item_ids.tolist()
    row = bought_together(log).items[names.index(item)]
    return [names[code] for code in row if code >= 0]


def test_what_is_bought_with_an_item_is_its_complement_and_what_replaces_it_is_not() -> None:
    happened = baskets(*["tea pot", "coffee mug"] * 5, "tea coffee", *["rug lamp"] * 5)
    assert complements(happened, "tea")[0] == "pot"
    assert "coffee" not in complements([*happened, *baskets("tea coffee")], "pot")


def test_two_that_are_each_bought_often_but_hardly_together_are_substitutes() -> None:
    happened = baskets(*["red case"] * 20, *["blue case"] * 20, "red blue")
    assert complements(happened, "red") == ["case"]


def test_complements_have_a_direction() -> None:
    """Who buys a case buys a phone, but who buys a phone buys a cable."""
    happened = baskets(*["phone case"] * 3, *["phone cable"] * 9, *["rug lamp"] * 9)
    assert complements(happened, "case") == ["phone"]
    assert complements(happened, "phone")[0] == "cable"


def test_a_small_basket_says_more_than_a_large_one() -> None:
    large = " ".join(["tea", "mug", *(f"item-{number}" for number in range(20))])
    assert complements(baskets("tea pot", large, *["rug lamp"] * 5), "tea")[0] == "pot"


def test_an_order_of_a_wholesaler_counts_nothing() -> None:
    everything = " ".join(f"item-{number}" for number in range(LARGEST_BASKET + 1))
    assert complements(baskets(everything, "tea pot"), "item-0") == []


def test_a_basket_is_what_one_visit_bought_whatever_it_viewed() -> None:
    visit = [
        Happened("ann", "tea", 0, BUY),
        Happened("ann", "rug", 1),
        Happened("ann", "pot", 2, BUY),
        Happened("ann", "mug", 2 * DAY, BUY),
        *baskets("lamp bulb", "lamp bulb"),
    ]
    assert complements(visit, "tea") == ["pot"]


def test_a_log_without_baskets_has_no_complements() -> None:
    found = bought_together(encoded([Happened("ann", "tea", 0), Happened("ann", "pot", 1)]))
    assert (found.items == -1).all()
    assert not np.isnan(found.scores).any()
