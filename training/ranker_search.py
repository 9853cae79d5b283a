"""Search for the ranker's hyperparameters: Optuna's TPE on the rows that it learns from, by the time split."""

import logging
from dataclasses import replace
from typing import Any, Final

import lightgbm
import numpy as np
import optuna

from serving.tree_ensemble import MOST_LEAVES
from training.config import RankerConfig
from training.ranker import MIN_GROUPS, RankerRows, dataset, parameters

HELD_OUT: Final = 0.2
"""Share of the requests, the newest, that a trial is scored on."""

logger = logging.getLogger(__name__)


def search_ranker(rows: RankerRows, config: RankerConfig) -> RankerConfig:
    """The configuration of ``config.trials`` tried whose ranker orders the newest requests best (NDCG@10).

    The first is ``config`` itself, which also stays where there are too few requests to tell.
    """
    if len(rows.groups) < 2 * MIN_GROUPS or not config.trials:
        return config
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=config.seed))
    study.enqueue_trial({name: getattr(config, name) for name in _SPACE})
    study.optimize(
        lambda trial: _score(rows, _suggested(trial, config)), n_trials=config.trials, show_progress_bar=True
    )
    logger.info("ranker: best of %d trials %s", config.trials, study.best_params)
    return replace(config, **study.best_params)


_SPACE: Final[dict[str, tuple[Any, Any, bool]]] = {
    "leaves": (7, MOST_LEAVES - 1, True),
    "learning_rate": (0.02, 0.15, True),
    "feature_share": (0.2, 1.0, False),
    "least_rows": (20, 500, True),
    "truncation": (20, 150, True),
    "trees": (50, 600, True),
}
"""Bounds of each hyperparameter, and whether its logarithm is drawn evenly."""


def _suggested(trial: optuna.Trial, config: RankerConfig) -> RankerConfig:
    found: dict[str, Any] = {}
    for name, (low, high, log) in _SPACE.items():
        suggest = trial.suggest_int if isinstance(low, int) else trial.suggest_float
        found[name] = suggest(name, low, high, log=log)
    return replace(config, **found)


def _score(rows: RankerRows, config: RankerConfig) -> float:
    """NDCG@10 on the newest requests of a ranker that was fitted on the others."""
    newest = np.arange(len(rows.groups)) >= int(len(rows.groups) * (1 - HELD_OUT))
    older = dataset(rows.take(~newest))
    ranker = lightgbm.train(
        parameters(config), older, config.trees, valid_sets=[dataset(rows.take(newest), older)]
    )
    return float(ranker.best_score["valid_0"]["ndcg@10"])
