"""What a bundle holds: the shop's items, and what is known of them and of shoppers at a moment."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.encoded_log import EncodedLog
from feature_repo.schema import ITEM_SCHEMA, EventType, Item
from feature_repo.session_features import Window
from feature_repo.user_tower import UserTower
from serving.bundle import Bundle
from serving.bundle_files import ARRAYS
from serving.ranking import Rankers
from serving.session_encoder import EncoderItems, SessionEncoder
from tests.tiny_bundle import newest_item_network, tiny_ranker
from tests.training.tiny_log import NOON, Happened, at, encoded, table
from training.assemble import Shop, assemble, describe_shop, item_columns, user_embeddings
from training.content import ENOUGH, FEWEST_TO_LEARN_FROM
from training.learned import Learned
from training.manifest import new_manifest

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


BULB, DESK, LAMP, MUG, SOFA = range(5)


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


def assembled(log: EncodedLog, shop: Shop, minute: float) -> Bundle:
    """The bundle as of a minute after NOON."""
    manifest = new_manifest("v1", NOON, NOON, at(minute))
    learned = Learned(tower(len(shop.item_ids)), None)
    return assemble(log, shop, manifest, learned, as_of=at(minute))


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
    bundle = assembled(encoded(LOG), shop, 11)
    assert bundle.availability.available.all()
    assert bundle.category_popularity.offsets.tolist() == [0]
    assert bundle.items.content.shape == (3, 0)
    assert (bundle.alike.items == -1).all()


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
    bundle = assembled(encoded(LOG, list(shop.item_ids)), shop, 11)
    assert dict(zip(shop.item_ids, bundle.availability.available, strict=True)) == {
        "bulb": True,
        "desk": False,
        "lamp": True,
        "mug": False,
        "sofa": False,
    }
    assert sorted(bundle.popularity.items.tolist()) == [0, 1, 2, 3, 4]


def test_nothing_after_the_moment_is_known(shop: Shop) -> None:
    """A bundle of a moment equals one of a log that ends there."""
    log = encoded(LOG, list(shop.item_ids))
    cut = encoded(LOG[:4], list(shop.item_ids))
    whole, ended = (assembled(events, shop, 10) for events in (log, cut))
    for part in ARRAYS:
        one, other = vars(getattr(whole, part)), vars(getattr(ended, part))
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=f"{part}.{name}")
    assert whole.items.first_seen[DESK] == -1
    assert whole.shopper_keys.tolist() == ended.shopper_keys.tolist()


def test_only_shoppers_who_showed_interest_have_a_row(shop: Shop) -> None:
    found = assembled(encoded(LOG, list(shop.item_ids)), shop, 11)
    assert found.shopper_keys.tolist() == ["u:ann", "v:x"]  # bob was only shown something
    assert len(found.users.statistics) == len(found.users.embeddings) == 2
    assert np.isfinite(found.users.statistics).all()
    assert found.user_index.vectors is found.users.embeddings
    assert found.histories.total_visits.tolist() == [1, 1]
    assert found.histories.of(1).items.tolist() == [MUG]


def test_popularity_counts_interest_alone(shop: Shop) -> None:
    found = assembled(encoded(LOG, list(shop.item_ids)), shop, 11)
    shares = dict(zip(found.popularity.items.tolist(), found.popularity.scores.tolist(), strict=True))
    expected = {MUG: 2 / 4, LAMP: 1 / 4, DESK: 1 / 4, BULB: 0, SOFA: 0}  # bob's impression is none
    assert shares == pytest.approx(expected, rel=1e-3)


def test_every_index_is_of_the_same_items_and_shoppers(shop: Shop) -> None:
    found = assembled(encoded(LOG, list(shop.item_ids)), shop, 11)
    items = len(shop.item_ids)
    per_item = (
        found.items.content,
        found.availability.available,
        found.covisited.items,
        found.walked.items,
        found.alike.items,
        found.sessions.rarity,
    )
    assert {len(column) for column in per_item} == {items}
    assert len(found.category_popularity.offsets) == len(shop.categories) + 1
    assert len(found.segment_popularity.offsets) == len(found.segments.centroids) + 1


def encoder_of(items: UserTower) -> SessionEncoder:
    """A session encoder that knows the items of a tower as the tower does."""
    return SessionEncoder(
        EncoderItems(items.embeddings, items.item_weight, np.array([2], np.float32), np.array([3], np.int32)),
        newest_item_network(items.embeddings.shape[1]),
    )


def test_what_was_learned_goes_into_the_bundle_as_it_is_where_the_catalog_says_little(shop: Shop) -> None:
    learned = Learned(tower(5), encoder_of(tower(5)), Rankers(tiny_ranker(), None))
    manifest = new_manifest("v1", NOON, NOON, at(11))
    found = assemble(encoded(LOG, list(shop.item_ids)), shop, manifest, learned, as_of=at(11))
    assert found.manifest is manifest
    assert found.rankers is learned.rankers
    assert found.encoder is not None
    assert learned.encoder is not None
    assert found.encoder.network == learned.encoder.network
    for mine, given in ((found.tower, learned.tower), (found.encoder.items, learned.encoder.items)):
        for name, array in vars(given).items():
            np.testing.assert_array_equal(getattr(mine, name), array, err_msg=name)


def test_an_item_that_nobody_met_gets_the_vector_of_those_that_are_like_it() -> None:
    """Cups point one way and lamps another, each a little its own way; the newest cup and lamp were never met."""
    names = [f"{kind} {number:03}" for kind in ("cup", "lamp") for number in range(FEWEST_TO_LEARN_FROM)]
    rows = [{Item.ID: name, Item.TITLE: name.split()[0], Item.CATEGORY: name.split()[0]} for name in names]
    new = [FEWEST_TO_LEARN_FROM - 1, 2 * FEWEST_TO_LEARN_FROM - 1]
    met = [name for number, name in enumerate(names) if number not in new for _ in range(ENOUGH)]
    log = [Happened(f"s{number % 7}", name, number) for number, name in enumerate(met)]
    shop = describe_shop(table(log), catalog(rows))
    is_cup = np.array([name.startswith("cup") for name in names])
    noise = np.random.default_rng(2).normal(scale=0.1, size=(len(names), 2))
    vectors = np.stack([is_cup, ~is_cup], axis=1) + noise
    known = ~np.isin(np.arange(len(names)), new)
    embeddings = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * known[:, None]
    learned = UserTower(
        embeddings.astype(np.float32),
        np.where(known, 3, 0).astype(np.float32),
        np.zeros(3, np.float32),
        np.zeros(len(EventType), np.float32),
    )
    manifest = new_manifest("v1", NOON, NOON, at(len(log)))
    found = assemble(
        encoded(log, names), shop, manifest, Learned(learned, encoder_of(learned)), as_of=at(len(log))
    )
    assert found.encoder is not None
    for items in (found.tower, found.encoder.items):
        np.testing.assert_allclose(items.embeddings[new], np.eye(2), atol=0.1)
        assert items.item_weight[new].tolist() == [3, 3]  # what items usually weigh in a window
        np.testing.assert_array_equal(items.item_weight[known], learned.item_weight[known])
    np.testing.assert_array_equal(found.tower.embeddings[known], learned.embeddings[known])
    assert found.popularity.scores[-2:].tolist() == [0, 0]
    assert names[found.alike.items[new[0], 0]].startswith("cup")


def test_a_log_before_its_first_event_makes_a_bundle_of_the_catalog_alone(shop: Shop) -> None:
    found = assembled(encoded(LOG, list(shop.item_ids)), shop, 0)
    assert found.shopper_keys.tolist() == []
    assert found.sessions.session_time.size == found.histories.items.size == 0
    assert found.popularity.scores.tolist() == [0] * 5
    assert found.popularity.trending.tolist() == []


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
