"""Each source of candidates on the tiny shop: what it brings is known by hand."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from feature_repo.arrays import Bool, Float32, Int32
from feature_repo.ranking_features import Page
from feature_repo.schema import DAY
from feature_repo.session_features import RECENCY_DECAY, recent_items
from serving.indexes import Neighbours, Segments, UserHistories
from serving.sources.own_items import MEMORY_DAYS
from serving.sources.similar_users import NEAREST_USERS
from serving.sources.source import Reach, around, summed
from serving.vector_index import VectorIndex
from tests.serving.tiny_shopper import NOW, TINY, bring, found, shopper
from tests.tiny_bundle import (
    KNOWN_SHOPPER,
    NAMES,
    TRENDING,
    UNKNOWN_TO_ENCODER,
    codes,
    neighbours,
    tiny_bundle,
)

KITCHEN = ["mug", "kettle", "teapot", "tray"]
LIGHT = ["lamp", "bulb", "shade"]


def test_recent_items_are_distinct_and_the_newest_first() -> None:
    active = shopper("mug", "desk", "mug", "lamp", "lamp").window
    assert [NAMES[item] for item in recent_items(active).newest(2).items] == ["lamp", "mug"]
    assert [NAMES[item] for item in recent_items(active).items] == ["lamp", "mug", "desk"]


def test_recent_items_count_the_newer_moments_not_the_newer_items() -> None:
    active = shopper("rug", ("mug", "desk", "tray"), "lamp", "lamp").window
    recent = recent_items(active)
    steps = {NAMES[item]: step for item, step in zip(recent.items, recent.steps.tolist(), strict=True)}
    assert steps == {"lamp": 0, "mug": 2, "desk": 2, "tray": 2, "rug": 3}
    np.testing.assert_allclose(recent.weights(), RECENCY_DECAY**recent.steps, rtol=1e-6)
    assert recent.weights().dtype == np.float32


def test_revisits_are_the_shoppers_own_items_the_newest_first() -> None:
    own = found("revisits", "desk", "mug", "desk", "lamp")
    assert own == {"lamp": 1, "desk": RECENCY_DECAY, "mug": RECENCY_DECAY**2}
    assert list(own) == ["lamp", "desk", "mug"]


def test_items_of_one_basket_are_equally_recent() -> None:
    assert found("revisits", "desk", ("tray", "mug"), "lamp") == {
        "lamp": 1,
        "mug": RECENCY_DECAY,
        "tray": RECENCY_DECAY,
        "desk": RECENCY_DECAY**2,
    }
    basket = found("covisitation", ("kettle", "lamp"))
    assert basket == found("covisitation", ("lamp", "kettle"))
    assert basket == {"teapot": 2, "bulb": 2, "mug": 1, "shade": 1}


def test_repeats_are_items_of_the_whole_history_by_their_share_of_visits_old_ones_counting_less() -> None:
    memory = 2 ** -((5 + 1 / 24) / MEMORY_DAYS)  # of the last visit, five days before the training
    own = found("repeats", "desk", key=KNOWN_SHOPPER)
    assert own == {"mug": 3 / 4 * memory, "teapot": 2 / 4 * memory}
    assert list(own) == ["mug", "teapot"]
    assert found("repeats", "mug", "teapot") == {}  # a stranger has no history


def test_of_two_items_met_as_often_the_one_met_last_comes_first() -> None:
    histories = TINY.histories
    last = np.array([NOW - 2 * MEMORY_DAYS * DAY, NOW, 0, 0, 0], np.int64)
    visits = np.array([3, 3, 1, 1, 1], np.float32)
    bundle = replace(TINY, histories=replace(histories, last=last, visits=visits))
    assert found("repeats", key=KNOWN_SHOPPER, bundle=bundle) == {"teapot": 3 / 4, "mug": 3 / 4 / 4}


def test_the_encoders_expectations_come_the_likeliest_first() -> None:
    next_items = found("next_item", "desk", "lamp")
    assert list(next_items)[:3] == LIGHT
    assert list(next_items)[-1] == UNKNOWN_TO_ENCODER
    total = 3 * np.exp(2) + 6 + np.exp(-2)  # its cosine with the three lights is 1, with others 0 or unknown
    assert next_items["lamp"] == 2 - np.log(total)
    assert next_items["mug"] == -np.log(total)
    assert next_items[UNKNOWN_TO_ENCODER] == -2 - np.log(total)


def test_without_an_encoder_or_a_window_nothing_is_expected_next() -> None:
    assert found("next_item", "lamp", bundle=tiny_bundle()) == {}
    assert found("next_item") == {}


def test_covisitation_adds_up_the_neighbours_of_recent_items_by_their_age() -> None:
    near = found("covisitation", "teapot", "kettle")
    assert near == {
        "teapot": 2,
        "kettle": 2 * RECENCY_DECAY,
        "mug": 1,
        "tray": RECENCY_DECAY,
    }
    assert list(near) == ["teapot", "kettle", "mug", "tray"]
    assert found("covisitation", "lamp", "bulb") == {
        "lamp": 2,
        "bulb": 2 * RECENCY_DECAY,
        "shade": RECENCY_DECAY,
    }


def test_a_neighbour_of_two_recent_items_counts_for_both() -> None:
    bundle = replace(TINY, covisited=neighbours({"desk": ["rug"], "lamp": ["rug"]}))
    assert found("covisitation", "desk", "lamp", bundle=bundle) == {"rug": 2 + 2 * RECENCY_DECAY}


def test_neighbours_of_the_last_item_come_in_their_own_order() -> None:
    assert found("last_item_covisitation", "lamp", "kettle") == {"teapot": 2, "mug": 1}
    assert list(found("last_item_covisitation", "lamp", "kettle")) == ["teapot", "mug"]
    assert found("last_item_covisitation", "kettle", "bulb") == {"lamp": 2}
    assert found("last_item_covisitation", "shade") == {}


def test_random_walks_find_what_nobody_met_with_the_item_and_add_up_by_age() -> None:
    assert found("random_walk", "kettle") == {"teapot": 2, "tray": 1}
    assert found("random_walk", "bulb", "lamp") == {
        "bulb": 2,
        "lamp": 2 * RECENCY_DECAY,
        "shade": 1 + RECENCY_DECAY,
    }
    assert found("random_walk", "shade") == {}


def test_what_is_alike_in_content_adds_up_by_age_and_needs_no_other_shopper() -> None:
    assert found("content", "mug", "desk") == {
        "rug": 2,
        "teapot": 2 * RECENCY_DECAY,
        "shade": 1,
        "tray": RECENCY_DECAY,
    }
    assert found("content", "lamp", "bulb") == {"shade": 2, "chair": 2 * RECENCY_DECAY}
    assert found("content", "kettle") == {}


def test_the_session_vector_finds_the_items_that_point_its_way() -> None:
    office = {"desk": 1, "chair": 1, "rug": 1}
    assert found("session_embedding", "desk", quota=3) == office
    mixed = found("session_embedding", "desk", "chair", "lamp", quota=6)
    assert list(mixed) == ["desk", "chair", "rug", "lamp", "bulb", "shade"]
    assert mixed["desk"] == 2 / np.sqrt(5)
    assert mixed["lamp"] == 1 / np.sqrt(5)


def test_the_user_vector_finds_items_for_who_has_no_window() -> None:
    assert list(found("user_embedding", key=KNOWN_SHOPPER, quota=4)) == KITCHEN
    assert found("session_embedding", key=KNOWN_SHOPPER) == {}


def test_similar_users_bring_what_they_met_by_their_share_of_visits() -> None:
    """A stranger in the kitchen and at a lamp: as near to ada as to bea, and not near to cal."""
    near = found("similar_users", "kettle", "shade", quota=4)
    cosine = 1 / np.sqrt(2)
    assert near == {"lamp": cosine, "mug": 3 / 4 * cosine, "bulb": 1 / 2 * cosine, "teapot": 2 / 4 * cosine}
    assert list(near) == ["lamp", "mug", "teapot", "bulb"]


def test_a_user_whose_taste_has_nothing_in_common_brings_nothing() -> None:
    assert found("similar_users", "kettle") == {"mug": 3 / 4, "teapot": 2 / 4}


def test_two_tastes_never_mix_among_similar_users() -> None:
    """A checker board: even shoppers met even items and point east, odd ones odd items and point west."""
    rng = np.random.default_rng(4)
    users = np.arange(3 * NEAREST_USERS)
    east = np.where(users % 2 == 0, 1, -1)
    vectors = np.stack([east, rng.normal(scale=0.1, size=users.size)], axis=1).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = np.stack([users % 2, users % 2 + 2 * rng.integers(1, 5, users.size)], axis=1).astype(np.int32)
    visits = np.ones(items.size, np.float32)
    moments = np.full(items.size, NOW - DAY)
    bundle = replace(
        TINY,
        users=replace(TINY.users, embeddings=vectors),
        user_index=VectorIndex.of(vectors),
        histories=UserHistories(
            np.arange(0, items.size + 1, 2),
            items.ravel(),
            visits,
            visits,
            moments,
            moments,
            np.full(users.size, 2, np.int32),
        ),
    )
    state = shopper("mug")
    for parity in (0, 1):
        taste = np.array([1 - 2 * parity, 0], np.float32)
        asked = replace(state, user=replace(state.user, embedding=taste))
        brought = bring("similar_users", asked, Reach(100), bundle).items
        assert set(brought % 2) == {parity}
        assert set(brought) == set(range(parity, 10, 2))


def test_who_has_no_taste_yet_has_no_similar_users_and_no_segment() -> None:
    assert found("similar_users") == {}
    assert found("segment_popular") == {}


def test_in_a_shop_without_shoppers_nobody_is_similar() -> None:
    nobody = np.zeros((0, 3), np.float32)
    bundle = replace(TINY, segments=Segments(nobody), user_index=VectorIndex.of(nobody))
    assert found("similar_users", "mug", bundle=bundle) == {}
    assert found("segment_popular", "mug", bundle=bundle) == {}


def test_popular_items_of_recent_categories_are_weighed_by_their_age() -> None:
    near = found("category_popular", "desk", "lamp")
    assert list(near) == ["lamp", "desk", "bulb", "chair", "shade", "rug"]
    assert near["lamp"] == 8
    assert near["desk"] == 7 * RECENCY_DECAY


def test_items_without_a_category_bring_no_category() -> None:
    items = TINY.items
    bundle = replace(TINY, items=replace(items, category=np.full_like(items.category, -1)))
    assert found("category_popular", "desk", bundle=bundle) == {}


def test_the_segment_of_the_nearest_taste_says_what_is_popular() -> None:
    assert found("segment_popular", key=KNOWN_SHOPPER) == {"kettle": 9, "teapot": 6}
    assert found("segment_popular", "tray") == found("segment_popular", key=KNOWN_SHOPPER)
    assert found("segment_popular", "chair") == {"lamp": 8, "desk": 7}


def test_what_is_on_the_rise_comes_for_everybody() -> None:
    assert found("trending") == found("trending", "desk", key=KNOWN_SHOPPER) == TRENDING
    assert list(found("trending")) == list(TRENDING)


def test_popular_items_come_for_everybody() -> None:
    assert found("popular", quota=3) == {"mug": 10, "kettle": 9, "lamp": 8}
    assert found("popular", "desk", quota=3) == found("popular", quota=3)


def test_items_equally_near_come_in_order_of_their_index_also_where_the_quota_cuts() -> None:
    for quota in range(1, 5):
        assert list(found("session_embedding", "teapot", quota=quota)) == KITCHEN[:quota]


@settings(deadline=None)
@given(
    arrays(np.float32, 30, elements=st.sampled_from([-1.0, 0.0, 0.25, 0.5, 0.75])),
    st.integers(1, 40),
    st.none() | arrays(bool, 30),
)
def test_the_best_within_a_reach_are_those_of_a_full_sort(
    scores: Float32, quota: int, allowed: Bool | None
) -> None:
    expected = [
        item
        for item in sorted(range(30), key=lambda item: (-scores[item], item))
        if allowed is None or allowed[item]
    ][:quota]
    reach = Reach(quota, allowed)
    shuffled = np.random.default_rng(quota).permutation(30).astype(np.int32)
    assert reach.best(shuffled, scores[shuffled]).items.tolist() == expected


def test_weights_of_the_same_item_are_summed() -> None:
    items, weights = summed(codes(["lamp", "mug", "lamp"]), np.array([1, 2, 4], np.float32))
    assert (items.tolist(), weights.tolist()) == (codes(["lamp", "mug"]).tolist(), [5, 2])
    assert items.dtype == np.int32
    assert weights.dtype == np.float32


@settings(deadline=None)
@given(
    arrays(np.int32, (6, 4), elements=st.integers(-1, 5)),
    st.lists(st.integers(0, 5), unique=True).map(lambda items: np.array(items, np.int32)),
    st.none() | st.integers(1, 6),
)
def test_neighbours_around_items_are_summed_like_one_after_the_other(
    lists: Int32, items: Int32, of_each: int | None
) -> None:
    neighbours = Neighbours(lists, np.arange(1, 25, dtype=np.float32).reshape(6, 4))
    weights = 0.5 ** np.arange(items.size, dtype=np.float32)
    expected: dict[int, float] = {}
    for item, weight in zip(items, weights, strict=True):
        for neighbour, score in list(zip(lists[item], neighbours.scores[item], strict=True))[:of_each]:
            if neighbour >= 0:
                expected[int(neighbour)] = expected.get(int(neighbour), 0) + float(score * weight)
    found, scores = around(neighbours, items, weights, of_each)
    assert dict(zip(found.tolist(), scores.tolist(), strict=True)) == expected


def test_what_the_page_and_the_cart_both_hold_counts_once() -> None:
    state = shopper("desk")
    both = replace(state, page=Page(codes(["kettle"]), codes(["kettle"])))
    one = replace(state, page=Page(codes(["kettle"]), codes([])))
    brought = bring("bought_together", both, Reach(5))
    np.testing.assert_array_equal(brought.scores, bring("bought_together", one, Reach(5)).scores)
    assert brought.items.size
