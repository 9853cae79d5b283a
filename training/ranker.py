"""The ranker: LightGBM lambdarank on replayed requests, made by the retrieval and feature functions that serve."""

from dataclasses import dataclass
from typing import Any, Final

import lightgbm
import numpy as np

from feature_repo.arrays import Bool, Float32, Int32, Int64
from feature_repo.ranking_features import RANKING_COLUMNS
from serving.ranking import Ranker, in_session
from serving.recommender import Recommender
from training.config import RankerConfig
from training.parallel import in_threads
from training.replay import Replay

MIN_GROUPS: Final = 50
"""With fewer requests whose target was retrieved, a ranker would learn noise."""


@dataclass(frozen=True)
class RankerRows:
    """Rows of all requests: features float32[n, len(RANKING_COLUMNS)]; relevance int32[n]: what the item was worth,
    0 for not wanted; groups int64[m]: number of rows of each request.
    """

    features: Float32
    relevance: Int32
    groups: Int64

    def take(self, chosen: Bool) -> "RankerRows":
        """The requests that are ``chosen``, bool[m]."""
        rows = np.repeat(chosen, self.groups)
        return RankerRows(self.features[rows], self.relevance[rows], self.groups[chosen])

    def weight(self) -> Float32:
        """float32[n]: a request counts as much as the best that came of it: the gain of one wanted item alone would
        cancel out of NDCG.
        """
        first = np.cumsum(self.groups) - self.groups
        return np.repeat(np.maximum.reduceat(self.relevance, first), self.groups).astype(np.float32)

    def in_session(self) -> Bool:
        """bool[m]: True where the shopper of a request is in a session."""
        first = np.cumsum(self.groups) - self.groups
        return in_session(self.features[first])


NO_ROWS: Final = RankerRows(
    np.zeros((0, len(RANKING_COLUMNS)), np.float32), np.zeros(0, np.int32), np.zeros(0, np.int64)
)


def ranker_rows(recommender: Recommender, replay: Replay, config: RankerConfig) -> RankerRows:
    """The candidates of every replayed request of which some are wanted: those and uniform negatives.

    Drawing negatives by any score would bias the ranker, so they are drawn evenly from the real candidates.
    """

    def rows(chunk: Replay) -> RankerRows:
        # Each chunk draws on its own, so that it does not matter which thread comes first.
        generator = np.random.default_rng((config.seed, int(chunk.stop[0])))
        return _chunk_rows(recommender, chunk, config.negatives, generator)

    return together(NO_ROWS, *in_threads(rows, replay.chunks(), "ranker rows"))


def _chunk_rows(
    recommender: Recommender, chunk: Replay, negatives: int, generator: np.random.Generator
) -> RankerRows:
    bundle, parts = recommender.bundle, [NO_ROWS]
    wanted = zip(chunk.wanted_in(bundle), chunk.worth_of_wanted(), strict=True)
    for query, (items, worth) in zip(chunk.queries(bundle, k=1), wanted, strict=True):
        interest = recommender.encode(query)
        candidates = recommender.filter(recommender.retrieve(query, interest), query)
        found = _worth(candidates.items, items, worth)
        if not found.any():
            continue
        keep = (found > 0) | _draw(found == 0, negatives, generator)
        features = recommender.features(candidates.take(keep), query, interest)
        parts.append(RankerRows(features, found[keep], np.array([len(features)])))
    return together(*parts)


def fit_ranker(rows: RankerRows, config: RankerConfig) -> Ranker | None:
    """A lambdarank model; None when there are too few requests to learn from.

    Few requests grow few trees. Stopping early by a held-out part would take the newest of them away, and on the
    few hundred that a small shop has it stops by chance.
    """
    if len(rows.groups) < MIN_GROUPS:
        return None
    trees = min(config.trees, len(rows.groups) // config.requests_per_tree)
    return Ranker(lightgbm.train(parameters(config), dataset(rows), num_boost_round=trees))


def parameters(config: RankerConfig) -> dict[str, Any]:
    """The configuration in LightGBM's words."""
    return {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [10],
        "num_leaves": config.leaves,
        "learning_rate": config.learning_rate,
        "lambdarank_truncation_level": config.truncation,
        "min_data_in_leaf": config.least_rows,
        "feature_fraction": config.feature_share,
        "seed": config.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": config.threads,
        "verbosity": -1,
    }


def dataset(rows: RankerRows, reference: lightgbm.Dataset | None = None) -> lightgbm.Dataset:
    """The rows as LightGBM takes them; ``reference`` is the dataset trained on, for one to validate with."""
    return lightgbm.Dataset(
        rows.features,
        rows.relevance,
        group=rows.groups,
        weight=rows.weight(),
        reference=reference,
        feature_name=list(RANKING_COLUMNS),
    )


def together(*parts: RankerRows) -> RankerRows:
    """The rows of several parts, one after the other."""
    return RankerRows(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.relevance for part in parts]),
        np.concatenate([part.groups for part in parts]),
    )


def _worth(items: Int32, wanted: Int32, worth: Int32) -> Int32:
    """int32[n]: what each of the items is worth to who wants ``wanted``."""
    return ((items[:, None] == wanted) * worth).max(axis=1, initial=0)


def _draw(eligible: Bool, size: int, generator: np.random.Generator) -> Bool:
    """bool[n]: at most ``size`` of the eligible, drawn evenly."""
    rows = np.flatnonzero(eligible)
    drawn = np.zeros(eligible.size, dtype=bool)
    drawn[rows if rows.size <= size else generator.choice(rows, size, replace=False)] = True
    return drawn
