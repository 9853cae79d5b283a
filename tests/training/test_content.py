"""Content: items of the same words, category or look are alike, and unknown items are placed by what they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.arrays import Float32
from feature_repo.errors import InputError
from feature_repo.schema import ITEM_SCHEMA, Item
from training import content
from training.content import (
    ENOUGH,
    FEWEST_TO_LEARN_FROM,
    IMAGE_DIMENSIONS,
    NEIGHBOURS,
    TEXT_DIMENSIONS,
    content_neighbours,
    content_vectors,
    vectors_from_content,
)


def catalog(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Items i000, i001, ... of which the rows tell some columns."""
    return pa.Table.from_pylist(
        [{Item.ID: f"i{number:03}", **row} for number, row in enumerate(rows)], schema=ITEM_SCHEMA
    )


def titled(*titles: str | None) -> pa.Table:
    return catalog([{Item.TITLE: title} for title in titles])


def nearest(vectors: Float32, item: int) -> list[int]:
    """Neighbours of an item, best first."""
    found = content_neighbours(vectors, np.ones(len(vectors), bool)).items[item]
    return found[found >= 0].tolist()


def cosine(vectors: Float32, one: int, other: int) -> float:
    return float(vectors[one] @ vectors[other])


def unit(vectors: "np.typing.NDArray[np.float64]") -> Float32:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


# Vectors of what the catalog says


def test_items_of_the_same_words_are_nearest_neighbours() -> None:
    vectors = content_vectors(
        titled("red wool scarf", "steel kettle", "scarf, wool", "small steel kettle", "wool hat", "steel pan")
    )
    assert nearest(vectors, 0)[0] == 2
    assert nearest(vectors, 1)[0] == 3
    assert cosine(vectors, 0, 1) == pytest.approx(0, abs=1e-5)


def test_case_accents_and_width_make_no_difference() -> None:
    vectors = content_vectors(
        titled("CAFÉ Größe", "cafe\u0301 GRÖSSE", "ｃａｆｅ große", "tea pot", "tea cup")
    )
    assert cosine(vectors, 0, 1) == pytest.approx(1)
    assert nearest(vectors, 0) == [1, 2]


def test_chinese_titles_that_share_characters_are_near() -> None:
    vectors = content_vectors(titled("红色连衣裙", "不锈钢茶壶", "夏季连衣裙", "玻璃茶壶", "茶杯"))
    assert nearest(vectors, 0) == [2]
    assert nearest(vectors, 1)[0] == 3
    assert 4 in nearest(vectors, 1)


@pytest.mark.parametrize(
    ("one", "alike", "unlike"),
    [
        ("ワンピース花柄", "ワンピース夏", "やかん鉄"),
        ("กระเป๋าหนัง", "กระเป๋าผ้า", "เตารีด"),
        ("여성원피스", "원피스 여름", "주전자"),
        ("कांच की बोतल", "बोतल नीली", "चमड़े का जूता"),
        ("красный чайник", "чайник стальной", "шерстяной шарф"),
        ("إبريق شاي", "إبريق كبير", "وشاح صوف"),
    ],
)
def test_every_script_has_words(one: str, alike: str, unlike: str) -> None:
    vectors = content_vectors(titled(one, alike, unlike, unlike))
    assert nearest(vectors, 0) == [1]
    assert nearest(vectors, 2) == [3]


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [
        (Item.DESCRIPTION, "for the kitchen", "for the beach"),
        (Item.CATEGORY, "home > kitchen > mugs", "garden > pots"),
        (Item.BRAND, "Oak & Ash", "Fern"),
        (Item.TAGS, ["gift", None], ["sale"]),
    ],
)
def test_each_column_of_text_makes_items_alike(column: str, one: object, other: object) -> None:
    vectors = content_vectors(catalog([{column: value} for value in (one, other, one, other)]))
    assert nearest(vectors, 0)[0] == 2
    assert cosine(vectors, 0, 2) == pytest.approx(1)
    assert cosine(vectors, 0, 1) < 0.8


def test_the_deeper_the_common_category_the_more_alike() -> None:
    paths = [
        "home > kitchen > mugs",
        "home > kitchen > mugs",
        "home > kitchen > pans",
        "home > sofas",
        "toys",
    ]
    vectors = content_vectors(catalog([{Item.CATEGORY: path} for path in [*paths, *paths[2:]]]))
    assert nearest(vectors, 0)[:4] == [1, 2, 5, 3]


def test_a_brand_is_not_the_word_in_a_title() -> None:
    vectors = content_vectors(
        catalog([{Item.BRAND: "apple"}, {Item.TITLE: "apple"}, {Item.BRAND: "apple"}, {Item.TITLE: "apple"}])
    )
    assert nearest(vectors, 0) == [2]


def test_vectors_have_length_one_or_zero() -> None:
    words = np.random.default_rng(1).integers(0, 300, (400, 5))
    vectors = content_vectors(
        titled(None, "", "?!", "unheard-of", *(" ".join(f"w{w}" for w in row) for row in words))
    )
    assert vectors.shape == (404, TEXT_DIMENSIONS)
    assert vectors.dtype == np.float32
    assert not vectors[:4].any()
    assert np.linalg.norm(vectors[4:], axis=1) == pytest.approx(np.ones(400))


def test_the_same_catalog_gives_the_same_vectors() -> None:
    words = np.random.default_rng(1).integers(0, 300, (400, 5))
    table = titled(*(" ".join(f"w{w}" for w in row) for row in words))
    assert (content_vectors(table) == content_vectors(table)).all()


@pytest.mark.parametrize("titles", [(), (None,), (None, None), ("alone",), ("one", "two")])
def test_a_catalog_that_says_nothing_of_two_items_has_no_columns(titles: tuple[str | None, ...]) -> None:
    vectors = content_vectors(titled(*titles))
    assert vectors.shape == (len(titles), 0)
    found = content_neighbours(vectors, np.ones(len(titles), bool))
    assert found.items.shape == found.scores.shape == (len(titles), NEIGHBOURS)
    assert (found.items == -1).all()


def test_items_that_look_alike_are_nearest_neighbours() -> None:
    rng = np.random.default_rng(3)
    looks = rng.normal(size=(4, 40))
    kind = np.arange(60) % 4
    pictures = looks[kind] * 100 + rng.normal(size=(60, 40)) * 30 + 1_000
    vectors = content_vectors(catalog([{Item.IMAGE_EMBEDDING: picture} for picture in pictures.tolist()]))
    assert vectors.shape == (60, IMAGE_DIMENSIONS)
    assert all(kind[found] == kind[item] for item in range(60) for found in nearest(vectors, item)[:10])


def test_words_weigh_more_than_looks() -> None:
    rows: list[dict[str, Any]] = [
        {Item.TITLE: "mug", Item.IMAGE_EMBEDDING: [1.0, 0.0]},
        {Item.TITLE: "lamp", Item.IMAGE_EMBEDDING: [1.0, 0.0]},
        {Item.TITLE: "mug", Item.IMAGE_EMBEDDING: [0.0, 1.0]},
        {Item.TITLE: "lamp", Item.IMAGE_EMBEDDING: None},
        {Item.TITLE: "mug", Item.IMAGE_EMBEDDING: [1.0, 0.0]},
    ]
    vectors = content_vectors(catalog(rows))
    assert nearest(vectors, 0) == [4, 2, 1]
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5))


@pytest.mark.parametrize("pictures", [[[1.0, 2.0], None], [[1.0, 2.0], [1.0, 2.0]], [[], None]])
def test_pictures_that_tell_nothing_apart_say_nothing(pictures: list[list[float] | None]) -> None:
    assert not content_vectors(catalog([{Item.IMAGE_EMBEDDING: picture} for picture in pictures])).any()


def test_image_vectors_of_two_lengths_are_refused_with_the_items_named() -> None:
    lengths = [2, 3, 2, 2, 2, 2]
    with pytest.raises(InputError) as refused:
        content_vectors(catalog([{Item.IMAGE_EMBEDDING: [0.0] * length} for length in lengths]))
    assert "2 numbers for i000, i002, i003 and 2 more; 3 numbers for i001" in str(refused.value)
    assert "freshet embed-images" in str(refused.value)


# Neighbours


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), items=st.integers(1, 1200), dimensions=st.integers(1, 3))
def test_neighbours_are_those_of_a_full_sort(seed: int, items: int, dimensions: int) -> None:
    rng = np.random.default_rng(seed)
    few = rng.choice([-1.0, 0.0, 1.0], (items, dimensions))  # so that there are many ties, and zeros
    vectors = (few / np.maximum(np.linalg.norm(few, axis=1, keepdims=True), 1)).astype(np.float32)
    recommendable = rng.random(items) < 0.8
    found = content_neighbours(vectors, recommendable)
    exact = np.rint(vectors * content.GRID).astype(np.int64)
    scores = exact @ exact.T
    for item in range(items):
        allowed = np.flatnonzero(recommendable & (scores[item] > 0) & (np.arange(items) != item))
        best = allowed[np.argsort(-scores[item, allowed], kind="stable")][:NEIGHBOURS]
        assert found.items[item].tolist() == [*best, *[-1] * (NEIGHBOURS - best.size)]
        assert found.scores[item, : best.size] == pytest.approx(scores[item, best] / content.GRID**2)


def test_the_best_of_many_items_are_found() -> None:
    vectors = unit(np.random.default_rng(1).normal(size=(3_000, 48)))
    found = content_neighbours(vectors, np.ones(3_000, bool))
    for item in range(0, 3_000, 100):
        scores = vectors @ vectors[item]
        scores[item] = -1
        assert found.scores[item] == pytest.approx(np.sort(scores)[::-1][:NEIGHBOURS], abs=2e-3)
        assert scores[found.items[item]] == pytest.approx(found.scores[item], abs=2e-3)


def test_what_cannot_be_recommended_is_no_neighbour_but_has_neighbours() -> None:
    vectors = content_vectors(titled("mug", "mug", "mug"))
    found = content_neighbours(vectors, np.array([True, False, True]))
    assert [row[row >= 0].tolist() for row in found.items] == [[2], [0, 2], [0]]


def test_a_shop_of_equal_items_is_soon_done() -> None:
    vectors = np.repeat(np.eye(2, dtype=np.float32), 10_000, axis=0)
    found = content_neighbours(vectors, np.ones(20_000, bool))
    assert found.items[5].tolist() == [item for item in range(NEIGHBOURS + 1) if item != 5]
    assert found.items[19_999].tolist() == list(range(10_000, 10_000 + NEIGHBOURS))
    assert (found.scores == 1).all()


# From content to learned vectors

KINDS = 6


def shop_of_kinds(items: int, seed: int = 1) -> tuple[Float32, Float32, Float32]:
    """Content float32[items, 20], and learned and true vectors float32[items, 32]; the kinds take turns."""
    rng = np.random.default_rng(seed)
    described = rng.normal(size=(KINDS, 20))[np.arange(items) % KINDS] + 0.5 * rng.normal(size=(items, 20))
    true = described @ rng.normal(size=(20, 32)) + rng.normal(size=32)
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    return unit(described), unit(true + 0.1 * rng.normal(size=true.shape)), unit(true)


def test_a_withheld_item_lands_among_its_kind() -> None:
    described, learned, true = shop_of_kinds(600)
    withheld = np.arange(600) >= 540
    interactions = np.where(withheld, 0, 20)
    filled = vectors_from_content(
        described, np.where(withheld[:, None], 0, learned).astype(np.float32), interactions
    )
    centres = np.stack([learned[:540][kind::KINDS].mean(axis=0) for kind in range(KINDS)])
    assert (np.argmax(filled[withheld] @ unit(centres).T, axis=1) == np.arange(540, 600) % KINDS).all()
    assert (filled[withheld] * true[withheld]).sum(axis=1).mean() > 0.9
    assert np.linalg.norm(filled, axis=1) == pytest.approx(np.ones(600), abs=1e-5)
    assert filled.dtype == np.float32


def test_a_learned_vector_counts_more_with_every_interaction() -> None:
    described, learned, _ = shop_of_kinds(100)
    interactions = np.full(100, 50)
    learned[:ENOUGH] = learned[50]  # as if chance had put them there
    likeness = []
    for count in range(ENOUGH + 1):
        interactions[:ENOUGH] = count
        filled = vectors_from_content(described, learned, interactions)
        likeness.append(float(filled[1] @ learned[1]))
    assert likeness == sorted(likeness)
    assert likeness[0] < 0.9
    assert likeness[ENOUGH] == pytest.approx(1)


def test_the_weight_of_a_learned_vector_is_that_computed_by_hand() -> None:
    described, learned, _ = shop_of_kinds(100)
    interactions = np.full(100, 50)
    interactions[0] = 0
    predicted = vectors_from_content(described, learned, interactions)[0]
    interactions[0] = 3
    blended = vectors_from_content(described, learned, interactions)[0]
    expected = 3 / 8 * learned[0] + 5 / 8 * predicted
    assert blended == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)


def test_what_was_learned_well_or_has_no_content_stays_as_it_is() -> None:
    described, learned, _ = shop_of_kinds(100)
    described[:3] = 0
    learned[0] = 0
    interactions = np.array([0, 2, 9, 2, *[5] * 96], np.int32)
    filled = vectors_from_content(described, learned, interactions)
    changed = (filled != learned).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [3]


def test_too_few_items_to_learn_from_change_nothing() -> None:
    described, learned, _ = shop_of_kinds(FEWEST_TO_LEARN_FROM)
    interactions = np.full(FEWEST_TO_LEARN_FROM, ENOUGH)
    interactions[0] = 1
    assert vectors_from_content(described, learned, interactions) is learned
    assert vectors_from_content(described[:, :0], learned, interactions) is learned


@pytest.mark.parametrize("items", [60, 300, 2_000])
def test_no_other_penalty_predicts_left_out_items_much_better(
    items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    described, learned, true = shop_of_kinds(items + 200)
    interactions = np.arange(items + 200) % 40 + ENOUGH
    interactions[items:] = 0

    def likeness(penalty: float) -> float:
        monkeypatch.setattr(content, "RIDGE", penalty)
        filled = vectors_from_content(described, learned, interactions)
        return float((filled[items:] * true[items:]).sum(axis=1).mean())

    chosen = content.RIDGE
    assert likeness(chosen) > max(map(likeness, (chosen / 30, chosen / 5, chosen * 5, chosen * 30))) - 0.02
