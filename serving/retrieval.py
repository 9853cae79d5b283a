"""Candidate generation: several sources look for items, and their findings are fused into one list."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from feature_repo.arrays import Float32, Float64, Int32, Int64
from feature_repo.compiled import FLOAT32S, FLOAT64S, INT, INT64S, compiled
from feature_repo.distinct_values import distinct
from feature_repo.ranking_features import SOURCES, Candidates, Interest
from serving.best_first import best_first
from serving.bundle import Bundle
from serving.in_time.attempt import UNHURRIED, Attempt
from serving.plan import Share, weights
from serving.query import Query
from serving.sources.bought_together import bought_together
from serving.sources.content import content
from serving.sources.covisitation import covisitation, last_item_covisitation
from serving.sources.embedding import session_embedding, user_embedding
from serving.sources.next_item import next_item
from serving.sources.own_items import repeats, revisits
from serving.sources.popularity import category_popular, popular, segment_popular, trending
from serving.sources.random_walk import random_walk
from serving.sources.session_neighbours import session_neighbours
from serving.sources.similar_users import similar_users
from serving.sources.source import NOTHING, Reach, Retrieved, Source
from serving.sources.text import text

FUSION_CONSTANT: Final = 60.0
"""k of reciprocal rank fusion: score = sum over sources of weight / (k + rank) (Cormack et al., SIGIR 2009)."""

RETRIEVERS: Final[Mapping[str, Source]] = {
    source.__name__: source
    for source in (
        revisits,
        repeats,
        next_item,
        session_neighbours,
        covisitation,
        last_item_covisitation,
        bought_together,
        random_walk,
        session_embedding,
        user_embedding,
        similar_users,
        content,
        category_popular,
        segment_popular,
        trending,
        popular,
        text,
    )
}
if tuple(RETRIEVERS) != SOURCES:
    raise AssertionError(
        "retrieval must offer exactly the sources that the ranking schema names, in its order"
    )


def retrieve(
    bundle: Bundle, query: Query, interest: Interest, size: int, attempt: Attempt = UNHURRIED
) -> Candidates:
    """The ``size`` best candidates of the query's mixture by reciprocal rank fusion, all of them allowed."""
    return fuse(ask_sources(bundle, query, interest, attempt), weights(query.plan.mixture), size)


def judge(
    bundle: Bundle, query: Query, interest: Interest, given: Int32, attempt: Attempt = UNHURRIED
) -> Candidates:
    """The given items as candidates, each with what the sources of the query's mixture say of it."""
    allowed = np.zeros(len(bundle.item_ids), dtype=bool)
    allowed[given] = True
    mixture = {name: Share(max(given.size, 1), share.weight) for name, share in query.plan.mixture.items()}
    asked = replace(query, allowed=allowed, plan=replace(query.plan, mixture=mixture))
    found = retrieve(bundle, asked, interest, given.size, attempt)
    return found.with_unbrought(np.setdiff1d(given, found.items))


def ask_sources(
    bundle: Bundle, query: Query, interest: Interest, attempt: Attempt = UNHURRIED
) -> list[Retrieved]:
    """What each of SOURCES brings; nothing where the query's mixture leaves it out."""
    return [
        attempt.ask(
            name,
            partial(
                source, bundle, query.shopper, interest, Reach(query.plan.mixture[name].quota, query.allowed)
            ),
        )
        if name in query.plan.mixture
        else NOTHING
        for name, source in RETRIEVERS.items()
    ]


def fuse(retrieved: Sequence[Retrieved], weights: Sequence[float], size: int) -> Candidates:
    """Union of the sources' findings (in the order of SOURCES), cut to the ``size`` best by fused rank."""
    found = np.concatenate([found.items for found in retrieved])
    scores = np.concatenate([found.scores for found in retrieved])
    lengths = np.array([found.items.size for found in retrieved])
    first, number = distinct(found)
    votes = np.bincount(number, _votes(lengths, np.array(weights, np.float64)), minlength=first.size)
    items, fused = found[first], votes.astype(np.float32)
    best = best_first(items, fused, size)
    row_of = np.full(first.size, -1)
    row_of[best] = np.arange(best.size)
    return Candidates(items[best], fused[best], *_tables(row_of[number], scores, lengths, best.size))


@compiled(INT64S, FLOAT64S)
def _votes(lengths: Int64, weights: Float64) -> Float64:
    """What each finding adds to the fused score of its item; findings of one source after the other, by rank."""
    votes = np.empty(lengths.sum(), np.float64)
    n = 0
    for source in range(lengths.size):
        for rank in range(lengths[source]):
            votes[n] = weights[source] / (FUSION_CONSTANT + rank)
            n += 1
    return votes


@compiled(INT64S, FLOAT32S, INT64S, INT)
def _tables(rows: Int64, scores: Float32, lengths: Int64, size: int) -> tuple[Float32, Float32, Float32]:
    """Scores, ranks and relative scores of candidates; rows int64[findings]: of which, -1 for none."""
    table = np.full((3, size, lengths.size), np.nan, np.float32)
    start = 0
    for source in range(lengths.size):
        for rank in range(lengths[source]):
            row, score, best = rows[start + rank], scores[start + rank], scores[start]
            if row >= 0:
                table[0, row, source] = score
                table[1, row, source] = rank
                if best > 0:
                    table[2, row, source] = score / best
        start += lengths[source]
    return table[0], table[1], table[2]


def reciprocal_rank(scores: Float32) -> Float32:
    """float32[n]: 1 / (FUSION_CONSTANT + rank) of each score, the highest of rank 0."""
    rank = np.empty(scores.size, np.float32)
    rank[np.argsort(-scores, kind="stable")] = np.arange(scores.size)
    return np.reciprocal(rank + np.float32(FUSION_CONSTANT))
