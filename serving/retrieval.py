"""Candidate generation: several sources look for items, and their findings are fused into one list."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from feature_repo.arrays import Float32, Int32
from feature_repo.ranking_features import SOURCES, Candidates, Interest
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
    items, slot = np.unique(np.concatenate([found.items for found in retrieved]), return_inverse=True)
    lengths = [found.items.size for found in retrieved]
    column = np.repeat(np.arange(len(retrieved)), lengths)
    rank = np.concatenate([np.arange(length) for length in lengths])
    weight = np.repeat(weights, lengths)
    fused = np.bincount(slot, weight / (FUSION_CONSTANT + rank), minlength=items.size).astype(np.float32)
    order = np.lexsort((items, -fused))[:size]
    table = np.full((3, items.size, len(retrieved)), np.nan, dtype=np.float32)
    table[0, slot, column] = np.concatenate([found.scores for found in retrieved])
    table[1, slot, column] = rank
    best = np.array([found.scores[0] if found.scores.size else np.nan for found in retrieved], np.float32)
    table[2] = table[0] / np.where(best > 0, best, np.nan)
    return Candidates(items[order].astype(np.int32), fused[order], *table[:, order])


def reciprocal_rank(scores: Float32) -> Float32:
    """float32[n]: 1 / (FUSION_CONSTANT + rank) of each score, the highest of rank 0."""
    rank = np.empty(scores.size, np.float32)
    rank[np.argsort(-scores, kind="stable")] = np.arange(scores.size)
    return np.reciprocal(rank + np.float32(FUSION_CONSTANT))
