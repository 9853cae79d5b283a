"""Evaluation by replay: how high does a method place the item that the shopper took next?

All ranking is over the full catalogue. Intervals are 95% bootstrap intervals over shoppers: requests of one shopper
are not independent, so shoppers are what is drawn.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Final

import numpy as np
from pydantic import ConfigDict
from tqdm import tqdm

from feature_repo.arrays import Float64, Int32
from serving import retrieval
from serving.bundle import Bundle
from serving.query import Query
from serving.recommender import Recommender
from serving.reranking import fill, may_show
from training.replay import Replay

CUTOFF: Final = 20
NDCG_CUTOFF: Final = 10
RESAMPLES: Final = 1000
POPULARITY: Final = "popularity"
COVISITATION: Final = "covisitation"
BASELINES: Final = (POPULARITY, COVISITATION)
"""Names of what a shop can have without training."""
NOT_FOUND: Final = -1

Method = Callable[[list[Query]], list[Int32]]
"""The items each query is answered with, best first."""


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its 95% interval; NaN where there was nothing to measure."""

    __pydantic_config__: ClassVar[ConfigDict] = {"ser_json_inf_nan": "strings"}  # so that NaN survives a file

    mean: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.lower:.4f}, {self.upper:.4f}]"


@dataclass(frozen=True)
class Scores:
    """Quality of a method on a replay of ``requests`` requests."""

    requests: int
    recall_at_20: Interval
    mrr_at_20: Interval
    ndcg_at_10: Interval


def evaluate(replay: Replay, bundle: Bundle, method: Method, name: str) -> Scores:
    """Scores of ``method``, whose answers are in the indexes of ``bundle``, on a replay; shows progress."""
    targets = replay.targets(bundle)
    ranks = np.full(len(replay), NOT_FOUND, dtype=np.int32)
    done = 0
    with tqdm(total=len(replay), desc=f"replay, {name}", unit="request", leave=False) as progress:
        for queries in replay.queries(bundle, CUTOFF):
            for items in method(queries):
                place = np.flatnonzero(items == targets[done])
                ranks[done] = place[0] if place.size else NOT_FOUND
                done += 1
            progress.update(len(queries))
    return score_ranks(ranks, replay.shopper)


def score_ranks(ranks: Int32, shopper: Int32) -> Scores:
    """Scores of the targets' ranks (from 0, NOT_FOUND where absent), one per request of each ``shopper`` code."""
    found = (ranks >= 0) & (ranks < CUTOFF)
    top = (ranks >= 0) & (ranks < NDCG_CUTOFF)
    position = np.maximum(ranks, 0) + 1.0
    return Scores(
        requests=len(ranks),
        recall_at_20=bootstrap(found.astype(float), shopper),
        mrr_at_20=bootstrap(np.where(found, 1 / position, 0.0), shopper),
        ndcg_at_10=bootstrap(np.where(top, 1 / np.log2(position + 1), 0.0), shopper),
    )


def bootstrap(values: Float64, shopper: Int32, seed: int = 0) -> Interval:
    """Mean of ``values`` and its 95% interval when shoppers are drawn with replacement; NaN for no values."""
    if not values.size:
        return Interval(float("nan"), float("nan"), float("nan"))
    _, codes = np.unique(shopper, return_inverse=True)
    sums = np.bincount(codes, values)
    counts = np.bincount(codes)
    generator = np.random.default_rng(seed)
    draws = (generator.integers(sums.size, size=sums.size) for _ in range(RESAMPLES))
    means = [float(sums[drawn].sum() / counts[drawn].sum()) for drawn in draws]
    lower, upper = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(lower), float(upper))


def to_text(scores: Mapping[str, Scores]) -> str:
    """A table of methods and their scores, each with its interval."""
    columns = [field.name for field in fields(Scores)]
    rows = [
        ("method", *columns),
        *((name, *(str(getattr(s, c)) for c in columns)) for name, s in scores.items()),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )


def ranked_slates(recommender: Recommender) -> Method:
    """The recommender as it is deployed."""
    return lambda queries: [slate.items for slate in recommender.recommend(queries)]


def baselines(bundle: Bundle) -> Mapping[str, Method]:
    """What a shop can have without training: the most popular items, and neighbours of the newest ones."""
    popular = bundle.retrieval.popular

    def showable(items: Int32, query: Query) -> Int32:
        return items[may_show(items, query.excluded, bundle.retrieval.available, query.allowed)]

    def popularity(query: Query) -> Int32:
        return showable(popular[: query.k + len(query.excluded)], query)[: query.k]

    def covisitation(query: Query) -> Int32:
        active = query.shopper.window.interactions()
        found = retrieval.covisitation(
            bundle, query.shopper, active, retrieval.Reach(query.k + len(query.excluded))
        )
        items = showable(found.items, query)[: query.k]
        return fill(items, np.zeros(items.size, np.float32), popularity(query), query.k)[0]

    return {
        POPULARITY: lambda queries: [popularity(query) for query in queries],
        COVISITATION: lambda queries: [covisitation(query) for query in queries],
    }
