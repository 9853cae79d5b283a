"""Methods that answer replayed queries: the recommender, and what a shop can have without training."""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Final

import numpy as np

from feature_repo.arrays import Int32
from feature_repo.session_features import recent_items
from serving.bundle import Bundle
from serving.query import Query
from serving.recommender import Recommender
from serving.reranking import fill, may_show
from serving.sources.source import RECENT_ITEMS, Reach, around
from training.evaluation.metrics import CUTOFF, NO_ITEM, Scores, slate_quality
from training.parallel import in_threads
from training.replay import Replay

POPULARITY: Final = "popularity"
COVISITATION: Final = "covisitation"
BASELINES: Final = (POPULARITY, COVISITATION)
"""Names of what a shop can have without training."""

Method = Callable[[list[Query]], list[Int32]]
"""The items each query is answered with, best first."""


def evaluate(replay: Replay, bundle: Bundle, method: Method, name: str) -> Scores:
    """Scores of ``method``, whose answers are in the indexes of ``bundle``, on a replay; shows progress."""
    found = slates(replay, bundle, method, name)
    wanted = replay.codes(bundle)[replay.wanted]
    return Scores.of(slate_quality(found, wanted, replay.offsets), replay.shopper)


def slates(replay: Replay, bundle: Bundle, method: Method, name: str) -> Int32:
    """int32[n, CUTOFF]: what ``method`` answers each request with, NO_ITEM where it is shorter; shows progress."""
    answers = np.full((len(replay), CUTOFF), NO_ITEM, dtype=np.int32)

    def answer(chunk: Replay) -> list[Int32]:
        return method(chunk.queries(bundle, CUTOFF))

    found = in_threads(answer, replay.chunks(), f"replay, {name}")
    for row, items in enumerate(chain.from_iterable(found)):
        answers[row, : items.size] = items
    return answers


def ranked_slates(recommender: Recommender) -> Method:
    """The recommender as it is deployed."""
    return lambda queries: [slate.items for slate in recommender.recommend(queries)]


def baselines(bundle: Bundle) -> Mapping[str, Method]:
    """What a shop can have without training: the most popular items, and neighbours of the newest ones."""
    popular = bundle.popularity.items

    def showable(items: Int32, query: Query) -> Int32:
        return items[may_show(items, query.excluded, bundle.availability.available, query.allowed)]

    def popularity(query: Query) -> Int32:
        return showable(popular[: query.k + len(query.excluded)], query)[: query.k]

    def covisitation(query: Query) -> Int32:
        reach = Reach(query.k + len(query.excluded))
        recent = recent_items(query.shopper.window.interactions()).newest(RECENT_ITEMS)
        found = reach.best(*around(bundle.covisited, recent.items, recent.weights()))
        items = showable(found.items, query)[: query.k]
        return fill(items, np.zeros(items.size, np.float32), popularity(query), query.k)[0]

    return {
        POPULARITY: lambda queries: [popularity(query) for query in queries],
        COVISITATION: lambda queries: [covisitation(query) for query in queries],
    }
