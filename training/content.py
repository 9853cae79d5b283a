"""What the catalog says of items, as vectors: which are alike, and where those belong that nobody has met yet."""

import itertools
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.utils.extmath import randomized_svd

from feature_repo.arrays import Bool, Float32, Float64, Int32, Int64, Strings
from feature_repo.errors import InputError
from feature_repo.schema import CATEGORY_SEPARATOR, Item
from feature_repo.text import folded, words
from serving.indexes import Neighbours

TEXT_DIMENSIONS: Final = 96
IMAGE_DIMENSIONS: Final = 16
IMAGE_WEIGHT: Final = 0.5
"""Length of an image vector beside a text vector of length one."""
DESCRIPTION_LENGTH: Final = 500
"""Characters read of a description: what an item is stands first, how it is delivered last."""
FEWEST_SHARING: Final = 2
"""Items that must have a token, for it makes no two of them alike otherwise."""
SHORTEST: Final = 1e-3
"""A vector shorter than this, before it is brought to length one, is rounding error."""
SEED: Final = 20
EXAMPLES: Final = 3
"""Items of each kind that an error names."""

NEIGHBOURS: Final = 50
BLOCK: Final = 256
"""Items whose similarities to all others are in memory at a time."""
GROUP: Final = 16
"""Candidates of which only the best is looked at first."""
GRID: Final = 2.0**11
"""Coordinates are rounded to steps of 1 / GRID before they are multiplied. A float32 then holds each product and
sum exactly, so that equal items tie on every machine, in whatever order it adds."""

ENOUGH: Final = 5
"""Interactions from which on an item's learned vector stands by itself."""
FEWEST_TO_LEARN_FROM: Final = 50
"""Items without which content predicts nothing."""
RIDGE: Final = 5.0
"""Penalty on the squared slopes, beside the weights of the items. From 3 to 10, little changes."""


def content_vectors(catalog: pa.Table) -> Float32:
    """float32[items, c]: unit vectors of what a table of ITEM_SCHEMA says of its items, zero where it says nothing.

    Title, description, category, brand and tags count by TF-IDF (a token that no other item has says nothing),
    images by their vectors; both are reduced by SVD. c is 0 for a catalog of ids alone. Raises InputError when
    image vectors differ in length.
    """
    text, image = _text_vectors(catalog), _image_vectors(catalog)
    return _unit(np.hstack([text, np.float32(IMAGE_WEIGHT) * image]))


def content_neighbours(vectors: Float32, recommendable: Bool) -> Neighbours:
    """The NEIGHBOURS recommendable items of the highest cosine to each item, if above zero; ties in items' order.

    vectors float32[items, c], of length one or zero; recommendable bool[items].
    """
    rounded = np.rint(vectors * GRID).astype(np.int32)
    candidates = _candidates(rounded, recommendable)
    own_column = np.full(len(vectors), -1)
    own_column[candidates] = np.arange(candidates.size)
    exact = rounded.astype(np.float32) / np.float32(GRID)
    groups = max(NEIGHBOURS, -(-candidates.size // GROUP))
    columns = np.zeros((GROUP * groups, exact.shape[1]), np.float32)
    columns[: candidates.size] = exact[candidates]
    neighbours = np.full((len(vectors), NEIGHBOURS), -1, np.int32)
    scores = np.zeros((len(vectors), NEIGHBOURS), np.float32)
    for start in range(0, len(vectors), BLOCK):
        block = slice(start, start + BLOCK)
        similarity = exact[block] @ columns.T
        candidate = np.flatnonzero(own_column[block] >= 0)
        similarity[candidate, own_column[block][candidate]] = 0  # no item is its own neighbour
        row, column, rank = _best(similarity)
        neighbours[start + row, rank] = candidates[column]
        scores[start + row, rank] = similarity[row, column]
    return Neighbours(neighbours, scores)


def vectors_from_content(content: Float32, learned: Float32, interactions: Int32 | Int64) -> Float32:
    """``learned``, with a unit vector that content predicts where there was little or nothing to learn from.

    content float32[items, c] of ``content_vectors``; learned float32[items, d]: unit vectors, zero for items never
    learned; interactions int[items]: how many each was learned from. The prediction is a ridge regression on the
    items of ENOUGH interactions or more, each weighing log(1 + interactions). An item of n < ENOUGH interactions
    gets n / (n + ENOUGH) of its learned vector and the rest of the predicted one. Items without content stay as
    they are, and so do all where fewer than FEWEST_TO_LEARN_FROM can be learned from.
    """
    described = content.any(axis=1)
    certain = learned.any(axis=1) & (interactions >= ENOUGH)
    exemplary = described & certain
    if exemplary.sum() < FEWEST_TO_LEARN_FROM:
        return learned
    predicted = _unit(_regression(content, learned, np.log1p(interactions) * exemplary))
    trust = (interactions / (interactions + ENOUGH)).astype(np.float32)[:, None]
    blended = _unit(trust * learned + (1 - trust) * predicted)
    return np.where((described & ~certain)[:, None], blended, learned)


def _text_vectors(catalog: pa.Table) -> Float32:
    columns = (Item.TITLE, Item.DESCRIPTION, Item.CATEGORY, Item.BRAND, Item.TAGS)
    rows = zip(*(catalog[name].to_pylist() for name in columns), strict=True)
    documents = [list(_tokens(*row)) for row in rows]
    nothing = np.zeros((len(documents), 0), np.float32)
    if not any(documents):
        return nothing
    counts = CountVectorizer(analyzer=list, dtype=np.float32).fit_transform(documents)
    shared = counts[:, counts.getnnz(axis=0) >= FEWEST_SHARING]
    if not shared.nnz:
        return nothing
    return _reduced(TfidfTransformer(sublinear_tf=True).fit_transform(shared), TEXT_DIMENSIONS)


def _tokens(
    title: str | None,
    description: str | None,
    category: str | None,
    brand: str | None,
    tags: list[str | None] | None,
) -> Iterator[str]:
    """The words; and as one token each, the levels of the category, brand and tags."""
    yield from words(title or "")
    yield from words((description or "")[:DESCRIPTION_LENGTH])
    if category:
        levels = folded(category).split(CATEGORY_SEPARATOR)
        for path in itertools.accumulate(levels, lambda path, level: f"{path}{CATEGORY_SEPARATOR}{level}"):
            yield f"category {path}"
    if brand:
        yield f"brand {folded(brand)}"
    for tag in filter(None, tags or ()):
        yield f"tag {folded(tag)}"


def _image_vectors(catalog: pa.Table) -> Float32:
    lists = catalog[Item.IMAGE_EMBEDDING].combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    shown = lengths > 0
    _require_one_length(catalog[Item.ID].to_numpy()[shown], lengths[shown])
    if not shown.any():
        return np.zeros((len(lengths), 0), np.float32)
    images = lists.filter(pa.array(shown)).flatten().to_numpy().reshape(shown.sum(), -1)
    images = images - images.mean(axis=0)
    spread = images.std(axis=0)
    images /= np.maximum(
        spread + spread.mean(), SHORTEST
    )  # what hardly varies is not to count as much as the rest
    reduced = _reduced(images, IMAGE_DIMENSIONS)
    vectors = np.zeros((len(lengths), reduced.shape[1]), np.float32)
    vectors[shown] = reduced
    return vectors


def _require_one_length(item_ids: Strings, lengths: Int64) -> None:
    """Raise InputError that names items of each length, unless there is only one."""
    different = np.unique(lengths)
    if different.size > 1:
        examples = (f"{length} numbers for {_named(item_ids[lengths == length])}" for length in different)
        raise InputError(
            f"{Item.IMAGE_EMBEDDING} must have one length, but the catalog has {'; '.join(examples)}: "
            "import these items with vectors of one model, or make them all with `freshet embed-images`"
        )


def _named(item_ids: Strings) -> str:
    more = f" and {item_ids.size - EXAMPLES:,} more" if item_ids.size > EXAMPLES else ""
    return ", ".join(item_ids[:EXAMPLES]) + more


def _reduced(matrix: Any, dimensions: int) -> Float32:
    """float32[n, ``dimensions`` or fewer]: unit rows of a dense or sparse matrix by its first singular vectors."""
    left, values, _ = randomized_svd(matrix, min(dimensions, *matrix.shape), random_state=SEED)
    return _unit(left * values)


def _unit(vectors: Float32 | Float64) -> Float32:
    """Each row at length one; zero where it is shorter than SHORTEST."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > SHORTEST, lengths, np.inf)).astype(np.float32)


def _candidates(rounded: Int32, recommendable: Bool) -> Int64:
    """Items that can be a neighbour: recommendable, not zero, and among the first of those equal to them."""
    items = np.flatnonzero(recommendable & rounded.any(axis=1))
    content = pd.Series([row.tobytes() for row in rounded[items]], dtype=object)
    return items[content.groupby(content).cumcount().to_numpy() <= NEIGHBOURS]


def _best(similarity: Float32) -> tuple[Int64, Int64, Int64]:
    """Row, column and rank of the NEIGHBOURS highest of each row that are above zero; ties by column.

    similarity float32[n, GROUP * groups] with NEIGHBOURS groups or more. The NEIGHBOURS-th of the groups' maxima is
    found soon, and none of the row's NEIGHBOURS best lies below it, so that little is left to sort.
    """
    maxima = similarity.reshape(len(similarity), GROUP, -1).max(axis=1)
    bound = np.partition(maxima, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS]
    above_zero = np.maximum(bound, np.finfo(np.float32).tiny)
    row, column = np.divmod(np.flatnonzero(similarity >= above_zero[:, None]), similarity.shape[1])
    order = np.lexsort((column, -similarity[row, column], row))
    row, column = row[order], column[order]
    rank = np.arange(row.size) - np.searchsorted(row, row)
    keep = rank < NEIGHBOURS
    return row[keep], column[keep], rank[keep]


def _regression(content: Float32, learned: Float32, weight: Float64) -> Float64:
    """float64[items, d]: ``learned`` as a ridge regression on ``content`` has it, with weight float64[items]."""
    mean_content, mean_learned = weight @ content / weight.sum(), weight @ learned / weight.sum()
    centred = content - mean_content
    weighted = centred.T * weight
    penalty = RIDGE * np.eye(content.shape[1])
    slope = np.linalg.solve(weighted @ centred + penalty, weighted @ (learned - mean_learned))
    return mean_learned + centred @ slope
