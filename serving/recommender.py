"""The recommender: the stages from a shopper's state to a slate, the same for a request, a batch and a replay."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from feature_repo.arrays import Float32
from feature_repo.ranking_features import RANKING_COLUMNS, Candidates, Interest
from feature_repo.ranking_matrix import ranking_matrix
from serving.bundle import Bundle
from serving.composition import Ranked, compose, guests
from serving.in_time.attempt import FIRST_TREES_SHARE, UNHURRIED, Attempt, Rung
from serving.plan import RankedBy
from serving.query import Query, Slate
from serving.ranking import log_odds, rank
from serving.retrieval import judge, reciprocal_rank, retrieve

RANKERS_SHARE: Final = 0.3
"""What the rankers weigh where they order together with the sources: they move what fits about equally."""

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
        attempt.begin("encode")
        interests = [self.encode(query) for query in queries]
        attempt.begin("retrieve")
        found = [self.retrieve(*asked, attempt) for asked in zip(queries, interests, strict=True)]
        attempt.begin("filter")
        candidates = [self.filter(*asked) for asked in zip(found, queries, strict=True)]
        attempt.begin("features")
        features = [self.features(*parts) for parts in zip(candidates, queries, interests, strict=True)]
        attempt.begin("rank")
        rung, scores = attempt.rank(lambda rung: self.rank(queries, candidates, features, rung))
        attempt.begin("rerank")
        slates = [
            compose(self.bundle, query, Ranked(*ranked, _rung(rung, brought)))
            for query, brought, ranked in zip(
                queries, found, zip(candidates, features, scores, strict=True), strict=True
            )
        ]
        attempt.end()
        return slates

    def stopgap(self, query: Query, is_sound: Callable[[str], bool]) -> tuple[Slate, list[str]]:
        """A slate by nothing but lists that stand ready: of the sound sources of LISTS, then of what is popular.

        Its candidates have no features. With it come the sources that were left out.
        """
        asked = {
            name: share for name, share in query.plan.mixture.items() if name in LISTS and is_sound(name)
        }
        with_lists = replace(query, plan=replace(query.plan, mixture=asked))
        window = query.shopper.window.interactions()
        found = self.retrieve(with_lists, Interest(window, np.zeros(0, np.float32), None))
        candidates = self.filter(found, query)
        features = np.full((candidates.items.size, len(RANKING_COLUMNS)), np.nan, np.float32)
        ranked = Ranked(candidates, features, log_odds(candidates.fused), _rung(Rung.NEIGHBOURS, found))
        return compose(self.bundle, query, ranked), [name for name in query.plan.mixture if name not in asked]

    def encode(self, query: Query) -> Interest:
        """What the model makes of the shopper."""
        return self.bundle.interest(query.shopper)

    def retrieve(self, query: Query, interest: Interest, attempt: Attempt = UNHURRIED) -> Candidates:
        """What the sources found, fused and cut to the number of candidates; or the given items."""
        if query.given is not None:
            return judge(self.bundle, query, interest, query.given, attempt)
        return retrieve(self.bundle, query, interest, self.candidates, attempt)

    def filter(self, candidates: Candidates, query: Query) -> Candidates:
        """The candidates that may be shown, and behind them what the plan's rules want to show besides."""
        kept = candidates.take(query.may_show(candidates.items, self.bundle))
        others = guests(self.bundle, query, kept.items)
        return kept.with_unbrought(others) if others.size else kept

    def features(self, candidates: Candidates, query: Query, interest: Interest) -> Float32:
        """The ranking feature matrix of a query's candidates."""
        return ranking_matrix(candidates, query.shopper, interest, self.bundle.items, self.bundle.tower)

    def rank(
        self,
        queries: Sequence[Query],
        candidates: Sequence[Candidates],
        features: Sequence[Float32],
        rung: Rung = Rung.RANKERS,
    ) -> list[Float32]:
        """By what the candidates of each query are ordered, float32 for each."""
        if rung in (Rung.NEIGHBOURS, Rung.POPULAR):
            return [log_odds(found.fused) for found in candidates]
        share = FIRST_TREES_SHARE if rung == Rung.FIRST_TREES else 1.0
        return [
            _ordered(query.plan.ranked_by, rank(self.bundle.rankers, matrix, share), found.fused)
            for query, found, matrix in zip(queries, candidates, features, strict=True)
        ]


def _rung(rung: Rung, found: Candidates) -> Rung:
    """Where the sources order, and brought nothing, only what is popular is left."""
    return Rung.POPULAR if rung == Rung.NEIGHBOURS and not found.items.size else rung


def _ordered(ranked_by: RankedBy, ranked: Float32, fused: Float32) -> Float32:
    """float32[n]: by what candidates are ordered; both ``ranked`` and ``fused`` are of these candidates."""
    if ranked_by == RankedBy.RANKERS:
        return ranked
    if ranked_by == RankedBy.SOURCES:
        return log_odds(fused)
    return log_odds(reciprocal_rank(fused) + np.float32(RANKERS_SHARE) * reciprocal_rank(ranked))
