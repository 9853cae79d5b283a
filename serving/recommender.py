"""The recommender: the stages from a shopper's state to a slate, the same for a request, a batch and a replay."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Final

import numpy as np

from feature_repo.arrays import Float32, Int32
from feature_repo.ranking_features import Candidates, Interest, ranking_matrix
from serving import reranking
from serving.bundle import Bundle
from serving.plan import FilledBy, Plan, RankedBy
from serving.query import Query, Slate
from serving.ranking import rank
from serving.retrieval import judge, reciprocal_rank, retrieve

RANKERS_SHARE: Final = 0.3
"""What the rankers weigh where they order together with the sources: they move what fits about equally."""

SPARE: Final = 100
"""Popular items that stand by where caps may keep the candidates out."""

Stage = Callable[[str], AbstractContextManager[object]]
"""Called with a stage's name around its work, to measure it."""


class Recommender:
    """Answers queries from one bundle. Stateless between calls; safe to share between threads."""

    def __init__(self, bundle: Bundle, candidates: int) -> None:
        self.bundle = bundle
        self.candidates = candidates

    def recommend(self, queries: Sequence[Query], stage: Stage = nullcontext) -> list[Slate]:
        """A slate for each query, in order. A query's slate does not depend on the others beside it."""
        with stage("encode"):
            interests = [self.encode(query) for query in queries]
        with stage("retrieve"):
            retrieved = [self.retrieve(*asked) for asked in zip(queries, interests, strict=True)]
        with stage("filter"):
            candidates = [self.filter(found, query) for found, query in zip(retrieved, queries, strict=True)]
        with stage("features"):
            features = [self.features(*parts) for parts in zip(candidates, queries, interests, strict=True)]
        with stage("rank"):
            scores = self._rank(queries, candidates, features)
        with stage("rerank"):
            return [self._slate(*parts) for parts in zip(queries, candidates, features, scores, strict=True)]

    def encode(self, query: Query) -> Interest:
        """What the model makes of the shopper."""
        return self.bundle.interest(query.shopper)

    def retrieve(self, query: Query, interest: Interest) -> Candidates:
        """What the sources found, fused and cut to the number of candidates; or the given items."""
        if query.given is not None:
            return judge(self.bundle, query, interest, query.given)
        return retrieve(self.bundle, query, interest, self.candidates)

    def filter(self, candidates: Candidates, query: Query) -> Candidates:
        """The candidates that may be shown; what the caller gave, it may show."""
        if query.given is not None:
            return candidates
        available = self.bundle.availability.available
        return candidates.take(reranking.may_show(candidates.items, query.excluded, available, query.allowed))

    def features(self, candidates: Candidates, query: Query, interest: Interest) -> Float32:
        """The ranking feature matrix of a query's candidates."""
        return ranking_matrix(candidates, query.shopper, interest, self.bundle.items, self.bundle.tower)

    def _rank(
        self, queries: Sequence[Query], candidates: Sequence[Candidates], features: Sequence[Float32]
    ) -> list[Float32]:
        if not queries:
            return []
        scores = rank(self.bundle.rankers, np.concatenate(features))
        ends = np.cumsum([0, *(len(matrix) for matrix in features)])
        return [
            _ordered(query.plan.ranked_by, scores[start:end], found.fused)
            for query, found, (start, end) in zip(queries, candidates, pairwise(ends), strict=True)
        ]

    def _slate(self, query: Query, candidates: Candidates, features: Float32, scores: Float32) -> Slate:
        items, scores = self._lengthened(query, candidates.items, scores)
        rows, relaxed = reranking.select(items, scores, query.k, self._rules(query.plan, items))
        filled = int(np.count_nonzero(rows >= candidates.items.size))
        return Slate(items[rows], scores[rows], filled, candidates, features, relaxed)

    def _lengthened(self, query: Query, items: Int32, scores: Float32) -> tuple[Int32, Float32]:
        """The candidates and, where they may not suffice, popular items behind them."""
        size = items.size + SPARE if query.plan.caps else query.k
        if items.size >= size or query.plan.filled_by == FilledBy.NOTHING:
            return items, scores
        popular = self.bundle.popularity.items
        keep = reranking.may_show(popular, query.excluded, self.bundle.availability.available, query.allowed)
        return reranking.fill(items, scores, popular[keep], size)

    def _rules(self, plan: Plan, items: Int32) -> reranking.Rules:
        diversity = None
        if plan.diversity:
            vectors = self.bundle.tower.embeddings[items]
            diversity = reranking.Diversity(plan.diversity, vectors, plan.diversity_kind)
        columns = (
            (group, getattr(self.bundle.items, group)[items], most) for group, most in plan.caps.items()
        )
        return reranking.Rules(caps=[reranking.Cap(*column) for column in columns], diversity=diversity)


def _ordered(ranked_by: RankedBy, ranked: Float32, fused: Float32) -> Float32:
    """float32[n]: by what candidates are ordered; both ``ranked`` and ``fused`` are of these candidates."""
    if ranked_by == RankedBy.RANKERS:
        return ranked
    if ranked_by == RankedBy.SOURCES:
        return fused
    return reciprocal_rank(fused) + np.float32(RANKERS_SHARE) * reciprocal_rank(ranked)
