"""What a bundle holds: the shop's items, and what is known of them and of shoppers at a moment."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.schema import ITEM_SCHEMA, EventType, Item
from feature_repo.session_features import Window
from feature_repo.user_tower import UserTower
from tests.training.tiny_log import Happened, at, encoded, table
from training.assemble import Shop, describe_shop, fit, item_columns, retrieval_arrays, user_embeddings

LOG = [
    Happened("ann", "mug", 0, price=4.0),
    Happened("ann", "lamp", 1, EventType.PURCHASE, price=30.0),
    Happened("v:x", "mug", 2, EventType.ADD_TO_CART, price=6.0),
    Happened("bob", "mug", 3, EventType.IMPRESSION),
    Happened("ann", "desk", 10),
]
CATALOG = [
    {Item.ID: "lamp", Item.CATEGORY: "home > light", Item.BRAND: "fern", Item.PRICE: 25.0},
    {Item.ID: "sofa", Item.CATEGORY: "home > living", Item.AVAILABLE: False},
    {Item.ID: "bulb", Item.CATEGORY: "home > light", Item.PRICE: 5.0},
]


def catalog(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=ITEM_SCHEMA)


def tower(items: int) -> UserTower:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(items, 4)).astype(np.float32)
    return UserTower(
        embeddings=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        item_weight=rng.uniform(0.5, 2, items).astype(np.float32),
        recency=np.zeros(3, np.float32),
        event_type=rng.normal(size=len(EventType)).astype(np.float32),
    )


@pytest.fixture
def shop() -> Shop:
    return describe_shop(table(LOG), catalog(CATALOG))


def test_a_shop_has_the_items_of_its_catalog_and_of_its_log(shop: Shop) -> None:
    assert shop.item_ids.tolist() == ["bulb", "desk", "lamp", "mug", "sofa"]
    assert shop.catalog[Item.ID].to_pylist() == shop.item_ids.tolist()
    assert shop.catalog[Item.PRICE].to_pylist() == [5.0, None, 25.0, None, None]
    assert shop.catalog.schema == ITEM_SCHEMA


def test_categories_departments_and_brands_are_codes_and_minus_one_is_none(shop: Shop) -> None:
    assert shop.categories == ["home > light", "home > living"]
    assert shop.category.tolist() == [0, -1, 0, -1, 1]
    assert shop.department.tolist() == [0, -1, 0, -1, 0]
    assert shop.brand.tolist() == [-1, -1, 0, -1, -1]


def test_a_shop_without_a_catalog_has_the_items_of_its_log_without_categories() -> None:
    shop = describe_shop(table(LOG), ITEM_SCHEMA.empty_table())
    assert shop.item_ids.tolist() == ["desk", "lamp", "mug"]
    assert shop.categories == []
    assert (shop.category == -1).all()
    arrays = retrieval_arrays(encoded(LOG), shop, at(11))
    assert arrays.available.all()
    assert arrays.category_offsets.tolist() == [0]


def test_a_price_comes_from_the_catalog_else_from_the_log_else_from_the_category(shop: Shop) -> None:
    rows: list[dict[str, Any]] = [*CATALOG, {Item.ID: "candle", Item.CATEGORY: "home > light"}]
    shop = describe_shop(table(LOG), catalog(rows))
    columns = item_columns(encoded(LOG, list(shop.item_ids)), shop, at(11))
    prices = dict(zip(shop.item_ids, zip(columns.price, columns.price_missing, strict=True), strict=True))
    assert prices["lamp"] == (25.0, False)
    assert prices["mug"] == (5.0, False)  # the mean of 4 and 6
    assert prices["candle"] == (15.0, True)  # between lamp and bulb
    assert prices["desk"] == (5.0, True)  # no category: the shop's median of 25, 5 and 5


def test_an_item_is_available_if_the_catalog_has_it_and_does_not_say_otherwise(shop: Shop) -> None:
    arrays = retrieval_arrays(encoded(LOG, list(shop.item_ids)), shop, at(11))
    assert dict(zip(shop.item_ids, arrays.available, strict=True)) == {
        "bulb": True,
        "desk": False,
        "lamp": True,
        "mug": False,
        "sofa": False,
    }
    assert sorted(arrays.popular.tolist()) == [0, 1, 2, 3, 4]


def test_nothing_after_the_moment_is_known(shop: Shop) -> None:
    """A fit at a moment equals a fit on a log that ends there."""
    log = encoded(LOG, list(shop.item_ids))
    cut = encoded(LOG[:4], list(shop.item_ids))
    whole, ended = (fit(events, shop, tower(5), at(10)) for events in (log, cut))
    for part in ("items", "retrieval", "users"):
        one, other = vars(getattr(whole, part)), vars(getattr(ended, part))
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert whole.items.first_seen[1] == -1  # the desk


def test_only_shoppers_who_showed_interest_have_a_row(shop: Shop) -> None:
    found = fit(encoded(LOG, list(shop.item_ids)), shop, tower(5), at(11))
    assert found.shopper_keys.tolist() == ["u:ann", "v:x"]  # bob was only shown something
    assert len(found.users.statistics) == len(found.users.embeddings) == 2
    assert np.isfinite(found.users.statistics).all()


def test_vectors_of_all_shoppers_at_once_are_those_of_each_alone() -> None:
    rng = np.random.default_rng(7)
    kinds = [EventType.VIEW, EventType.PURCHASE, EventType.RATE]
    log = encoded(
        [
            Happened(f"s{rng.integers(9)}", f"i{rng.integers(6)}", minute, kinds[minute % 3])
            for minute in range(90)
        ]
    ).interactions()
    towers = tower(6)
    for key, vector in enumerate(user_embeddings(log, towers)):
        start, stop = log.offsets()[key : key + 2]
        window: Window = log.window(start, stop)
        assert vector == pytest.approx(towers.user_vector(window.items, window.types), rel=1e-5)
