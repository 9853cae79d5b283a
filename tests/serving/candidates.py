"""Random candidates of a slate, few enough of them that scores tie and caps bite."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from feature_repo.arrays import Float32, Int32
from serving.reranking import Cap, Diversity, DiversityKind

MOST = 12


class Candidates(NamedTuple):
    """Items int32[n], each once, scores float32[n] and unit vectors float32[n, 4], some of them zero."""

    items: Int32
    scores: Float32
    vectors: Float32


@st.composite
def candidates(draw: st.DrawFn) -> Candidates:
    items = draw(st.lists(st.integers(0, 99), unique=True, max_size=MOST))
    scores = draw(st.lists(st.sampled_from([-1.5, 0, 2, 2.5, 7]), min_size=len(items), max_size=len(items)))
    vectors = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(len(items), 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[draw(st.lists(st.integers(0, max(len(items) - 1, 0)), max_size=2)) if items else []] = 0
    return Candidates(np.array(items, np.int32), np.array(scores, np.float32), vectors.astype(np.float32))


def caps_of(n: int) -> st.SearchStrategy[list[Cap]]:
    """Caps on n candidates, in some of which a candidate has no group."""
    groups = st.lists(st.integers(-1, 3), min_size=n, max_size=n).map(lambda codes: np.array(codes, np.int32))
    return st.lists(st.tuples(groups, st.integers(1, 3)), max_size=3).map(
        lambda drawn: [Cap(f"cap {number}", *cap) for number, cap in enumerate(drawn)]
    )


def fixed_of(n: int, places: int) -> st.SearchStrategy[dict[int, int]]:
    """Rows of n candidates at some of the places, each once."""
    if not n:
        return st.just({})
    return st.dictionaries(st.integers(0, places - 1), st.integers(0, n - 1), max_size=3).map(
        lambda drawn: {place: row for row, place in {row: place for place, row in drawn.items()}.items()}
    )


def diversities(vectors: Float32) -> st.SearchStrategy[Diversity | None]:
    """No diversity, or any."""
    dials = st.floats(0, 1, width=32)
    return st.none() | st.builds(Diversity, dials, st.just(vectors), st.sampled_from(DiversityKind))
