"""The recommender: the stages from a shopper's state to a slate, the same for a request, a batch and a replay."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np

from feature_repo.arrays import Float32, Int32
from feature_repo.ranking_features import RANKING_COLUMNS, Candidates, Interest, ranking_matrix
from serving import reranking
from serving.attempt import FIRST_TREES_SHARE, UNHURRIED, Attempt, Rung
from serving.bundle import Bundle
from serving.plan import FilledBy, Plan, RankedBy
from serving.query import Query, Slate
from serving.ranking import rank
from serving.retrieval import judge, reciprocal_rank, retrieve

RANKERS_SHARE: Final = 0.3
"""What the rankers weigh where they order together with the sources: they move what fits about equally."""

SPARE: Final = 100
"""Popular items that stand by where caps may keep the candidates out."""

LISTS: Final = frozenset(
    {
        "covisitation",
        "last_item_covisitation",
        "bought_together",
        "random_walk",
        "content",
        "category_popular",
        "text",
    }
)
"""Sources that read what they bring from lists, at next to no cost."""


class Recommender:
    """Answers queries from one bundle. Stateless between calls; safe to share between threads."""

    def __init__(self, bundle: Bundle, candidates: int) -> None:
        self.bundle = bundle
        self.candidates = candidates

    def recommend(self, queries: Sequence[Query], attempt: Attempt = UNHURRIED) -> list[Slate]:
        """A slate for each query, in order. A query's slate does not depend on the others beside it."""
        if not queries:
            return []
        with attempt.stage("encode"):
            interests = [self.encode(query) for query in queries]
        with attempt.stage("retrieve"):
            found = [self.retrieve(*asked, attempt) for asked in zip(queries, interests, strict=True)]
        with attempt.stage("filter"):
            candidates = [self.filter(*asked) for asked in zip(found, queries, strict=True)]
        with attempt.stage("features"):
            features = [self.features(*parts) for parts in zip(candidates, queries, interests, strict=True)]
        with attempt.stage("rank"):
            rung, scores = attempt.rank(lambda rung: self._rank(queries, candidates, features, rung))
        with attempt.stage("rerank"):
            return [
                self._slate(*parts, rung) for parts in zip(queries, candidates, features, scores, strict=True)
            ]

    def stopgap(self, query: Query, is_sound: Callable[[str], bool]) -> Slate:
        """A slate by nothing but lists that stand ready: of the sound sources of LISTS, then of what is popular.

        Its candidates have no features.
        """
        window = query.shopper.window.interactions()
        interest = Interest(window, np.zeros(0, np.float32), None)
        mixture = {
            name: share for name, share in query.plan.mixture.items() if name in LISTS and is_sound(name)
        }
        asked = replace(query, plan=replace(query.plan, mixture=mixture))
        candidates = self.filter(self.retrieve(asked, interest), asked)
        features = np.full((candidates.items.size, len(RANKING_COLUMNS)), np.nan, np.float32)
        rung = Rung.NEIGHBOURS if candidates.items.size else Rung.POPULAR
        return self._slate(query, candidates, features, candidates.fused, rung)

    def encode(self, query: Query) -> Interest:
        """What the model makes of the shopper."""
        return self.bundle.interest(query.shopper)

    def retrieve(self, query: Query, interest: Interest, attempt: Attempt = UNHURRIED) -> Candidates:
        """What the sources found, fused and cut to the number of candidates; or the given items."""
        if query.given is not None:
            return judge(self.bundle, query, interest, query.given, attempt)
        return retrieve(self.bundle, query, interest, self.candidates, attempt)

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
        self,
        queries: Sequence[Query],
        candidates: Sequence[Candidates],
        features: Sequence[Float32],
        rung: Rung,
    ) -> list[Float32]:
        if rung == Rung.NEIGHBOURS:
            return [found.fused for found in candidates]
        share = FIRST_TREES_SHARE if rung == Rung.FIRST_TREES else 1.0
        scores = rank(self.bundle.rankers, np.concatenate(features), share)
        ends = np.cumsum([0, *(len(matrix) for matrix in features)])
        return [
            _ordered(query.plan.ranked_by, scores[start:end], found.fused)
            for query, found, (start, end) in zip(queries, candidates, pairwise(ends), strict=True)
        ]

    def _slate(
        self, query: Query, candidates: Candidates, features: Float32, scores: Float32, rung: Rung
    ) -> Slate:
        items, scores = self._lengthened(query, candidates.items, scores)
        rows, relaxed = reranking.select(items, scores, query.k, self._rules(query.plan, items))
        filled = int(np.count_nonzero(rows >= candidates.items.size))
        return Slate(items[rows], scores[rows], filled, candidates, features, relaxed, rung)

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
