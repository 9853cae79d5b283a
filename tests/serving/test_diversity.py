"""Diversity: what the formulas of the papers say, computed the slow way."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from feature_repo.arrays import Float32
from serving.reranking import Diversity, DiversityKind, Rules, best, likeness_vectors, select
from serving.reranking.diversity import CONTENT_SHARE, LEAST_SQUARED, STEEPNESS, YARDSTICK, relevance
from tests.serving.candidates import MOST, Candidates, candidates

KINDS = pytest.mark.parametrize("kind", DiversityKind)
dials = st.floats(0.0625, 1, width=32)


def diverse(found: Candidates, dial: float, kind: DiversityKind, k: int = MOST) -> list[int]:
    """Rows of the diverse slate."""
    return select(
        found.items, found.scores, k, Rules(diversity=Diversity(dial, found.vectors, kind))
    ).rows.tolist()


def in_rankers_order(found: Candidates) -> list[int]:
    return select(found.items, found.scores, MOST).rows.tolist()


def likeness(vectors: Float32, row: int, chosen: list[int]) -> float:
    """Cosine to the sum of the chosen, which counts as no shorter than one of them."""
    together = vectors[chosen].astype(np.float64).sum(axis=0)
    return float(vectors[row] @ together) / max(float(np.linalg.norm(together)), 1.0)


def log_volume(vectors: Float32, rows: list[int]) -> float:
    """Of the parallelepiped that vectors span; a zero vector is at right angles to all others."""
    gram = (vectors[rows] @ vectors[rows].T).astype(np.float64)
    np.fill_diagonal(gram, 1.0)
    return float(np.linalg.slogdet(gram)[1] / 2)


@KINDS
@given(found=candidates(), k=st.integers(0, MOST))
def test_dial_0_is_the_rankers_order(kind: DiversityKind, found: Candidates, k: int) -> None:
    rows = diverse(found, 0.0, kind, k)
    np.testing.assert_array_equal(found.items[rows], best(found.items, found.scores, k)[0])


@KINDS
@given(found=candidates(), dial=dials, k=st.integers(1, MOST))
def test_a_longer_slate_begins_with_the_shorter(
    kind: DiversityKind, found: Candidates, dial: float, k: int
) -> None:
    assert diverse(found, dial, kind)[:k] == diverse(found, dial, kind, k)


@given(candidates(), dials)
def test_mmr_takes_the_place_of_the_highest_marginal_relevance(found: Candidates, dial: float) -> None:
    order, chosen = in_rankers_order(found), list[int]()
    for row in diverse(found, dial, DiversityKind.MMR):
        gain = {
            other: relevance - dial * likeness(found.vectors, other, chosen)
            for other, relevance in zip(order, relevance(found.scores[order]).tolist(), strict=True)
            if other not in chosen
        }
        assert gain[row] == pytest.approx(max(gain.values()), abs=1e-5)
        chosen.append(row)


@given(candidates(), dials)
def test_the_dpp_takes_what_adds_most_to_relevance_and_volume(found: Candidates, dial: float) -> None:
    order, chosen = in_rankers_order(found), list[int]()
    for row in diverse(
        found, dial, DiversityKind.DPP, k=4
    ):  # no more than dimensions, where volumes are above 0
        volume = log_volume(found.vectors, chosen)
        assume(volume > np.log(LEAST_SQUARED) / 4)
        gain = {
            other: relevance
            + dial
            * max(log_volume(found.vectors, [*chosen, other]) - volume, float(np.log(LEAST_SQUARED)) / 2)
            for other, relevance in zip(order, relevance(found.scores[order]).tolist(), strict=True)
            if other not in chosen
        }
        assert gain[row] == pytest.approx(max(gain.values()), abs=1e-2)
        chosen.append(row)


def test_what_is_half_like_two_items_is_less_novel_than_what_is_half_like_one() -> None:
    one, other, nothing = np.eye(3, dtype=np.float32)
    half = np.float32(0.5**0.5)
    found = Candidates(
        np.arange(4, dtype=np.int32),
        np.array([4, 4, 1, 1], np.float32),
        np.stack([one, other, half * (one + other), half * (one + nothing)]),
    )
    assert diverse(found, 0.5, DiversityKind.MMR) == [0, 1, 3, 2]


def test_items_are_as_alike_as_the_catalog_and_the_shoppers_say_together() -> None:
    same, unlike, silent = [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]
    content = np.array([same, same, unlike, silent, silent], np.float32)
    learned = np.array([same, unlike, same, same, silent], np.float32)
    vectors = likeness_vectors(content, learned)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 1, 0], atol=1e-6)
    assert (vectors @ vectors[0])[:3] == pytest.approx([1, CONTENT_SHARE, 1 - CONTENT_SHARE])
    assert vectors[3] == pytest.approx([*silent, *same])


def test_a_catalog_of_ids_leaves_likeness_to_the_shoppers() -> None:
    learned = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(likeness_vectors(np.zeros((3, 0), np.float32), learned), learned, atol=1e-6)


def test_relevance_does_not_depend_on_the_scale_of_the_scores() -> None:
    scores = np.linspace(3, -8, 50, dtype=np.float32)
    np.testing.assert_allclose(relevance(1000 * scores + 77), relevance(scores), rtol=1e-3)
    assert relevance(scores)[[0, YARDSTICK - 1]] == pytest.approx([1, np.exp(-STEEPNESS)])
    assert relevance(np.full(3, 5, np.float32)).tolist() == [1, 1, 1]


@KINDS
def test_what_is_like_the_first_item_comes_late_and_what_has_no_vector_does_not(kind: DiversityKind) -> None:
    kettle, teapot, desk, mystery = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    found = Candidates(
        np.arange(4, dtype=np.int32),
        np.array([4, 3, 2, 1], np.float32),
        np.stack([kettle, teapot, desk, 0 * mystery]),
    )
    assert diverse(found, 0.0, kind) == [0, 1, 2, 3]
    assert diverse(found, 1.0, kind) == [0, 2, 3, 1]


@KINDS
def test_more_items_than_dimensions_still_make_a_slate(kind: DiversityKind) -> None:
    found = Candidates(
        np.arange(30, dtype=np.int32),
        np.zeros(30, np.float32),
        np.tile(np.eye(3, dtype=np.float32), (10, 1)),
    )
    rows = diverse(found, 1.0, kind, k=30)
    assert sorted(rows) == list(range(30))
    assert rows[:3] == [0, 1, 2]
