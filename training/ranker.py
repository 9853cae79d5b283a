"""The ranker: LightGBM lambdarank on replayed requests, made by the retrieval and feature functions that serve."""

from dataclasses import dataclass
from typing import Final

import lightgbm
import numpy as np
from tqdm import tqdm

from feature_repo.arrays import Bool, Float32, Int32, Int64
from feature_repo.ranking_features import RANKING_COLUMNS
from serving.recommender import Recommender
from training.config import RankerConfig
from training.replay import Replay

MIN_GROUPS: Final = 50
"""With fewer requests whose target was retrieved, a ranker would learn noise."""


@dataclass(frozen=True)
class RankerRows:
    """Rows of all requests: features float32[n, len(RANKING_COLUMNS)], relevant int32[n] (0 or 1).

    groups int64[m]: number of rows of each request.
    """

    features: Float32
    relevant: Int32
    groups: Int64


def ranker_rows(recommender: Recommender, replay: Replay, config: RankerConfig) -> RankerRows:
    """The candidates of every replayed request whose target was retrieved: the target and uniform negatives.

    Drawing negatives by any score would bias the ranker, so they are drawn evenly from the real candidates.
    """
    generator = np.random.default_rng(config.seed)
    width = min(config.negatives, recommender.candidates - 1) + 1
    features = np.empty((len(replay) * width, len(RANKING_COLUMNS)), dtype=np.float32)
    relevant = np.zeros(len(features), dtype=np.int32)
    targets = iter(replay.targets(recommender.bundle))
    groups: list[int] = []
    end = 0
    with tqdm(total=len(replay), desc="ranker rows", unit="request", leave=False) as progress:
        for queries in replay.queries(recommender.bundle, k=1):
            progress.update(len(queries))
            for query in queries:
                candidates = recommender.filter(recommender.retrieve(query), query)
                is_target = candidates.items == next(targets)
                if not is_target.any():
                    continue
                keep = is_target | _draw(~is_target, config.negatives, generator)
                chosen = candidates.take(keep)
                rows = slice(end, end + len(chosen.items))
                features[rows] = recommender.features(chosen, query)
                relevant[rows] = is_target[keep]
                groups.append(len(chosen.items))
                end = rows.stop
    return RankerRows(features[:end], relevant[:end], np.array(groups, dtype=np.int64))


def fit_ranker(rows: RankerRows, config: RankerConfig) -> lightgbm.Booster | None:
    """A lambdarank model, early stopping by NDCG@10 on the last requests; None when there are too few to learn."""
    if len(rows.groups) < MIN_GROUPS:
        return None
    training_groups = int(len(rows.groups) * (1 - config.held_out))
    cut = int(rows.groups[:training_groups].sum())
    names = list(RANKING_COLUMNS)
    training = lightgbm.Dataset(
        rows.features[:cut], rows.relevant[:cut], group=rows.groups[:training_groups], feature_name=names
    )
    held_out = lightgbm.Dataset(
        rows.features[cut:], rows.relevant[cut:], group=rows.groups[training_groups:], reference=training
    )
    return lightgbm.train(
        {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [10],
            "num_leaves": config.leaves,
            "learning_rate": config.learning_rate,
            "lambdarank_truncation_level": config.truncation,
            "min_data_in_leaf": 50,
            "feature_fraction": 0.8,
            "seed": config.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": config.threads,
            "verbosity": -1,
        },
        training,
        num_boost_round=config.trees,
        valid_sets=[held_out],
        callbacks=[lightgbm.early_stopping(config.patience, verbose=False)],
    )


def _draw(eligible: Bool, size: int, generator: np.random.Generator) -> Bool:
    """bool[n]: at most ``size`` of the eligible, drawn evenly."""
    rows = np.flatnonzero(eligible)
    drawn = np.zeros(eligible.size, dtype=bool)
    drawn[rows if rows.size <= size else generator.choice(rows, size, replace=False)] = True
    return drawn
