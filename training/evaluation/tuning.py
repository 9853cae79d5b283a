"""Baselines are tuned: each on requests before the test part, fitted on what was before those.

A study draws parameters by the tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011; package optuna). It
begins with parameters that are known to do well, so the best are no worse than those on the requests of the study.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np
import optuna
from optuna.trial import BaseTrial, FixedTrial
from tqdm import tqdm

from feature_repo.arrays import Int32
from feature_repo.schema import DAY
from feature_repo.session_features import RECENCY_DECAY
from serving.sources.session_neighbours import NeighbourWeights
from training.evaluation.baselines import (
    Baseline,
    Covisitation,
    FittedBaseline,
    ImplicitALS,
    OwnItemsFirst,
    Past,
    PersonalFrequency,
    Popularity,
    SessionNeighbours,
)
from training.evaluation.metrics import slate_quality
from training.popularity import HALF_LIFE
from training.replay import Replay

REQUESTS: Final = 1500
"""Most requests that a trial is scored on."""
SEED: Final = 20
NEUTRAL: Final = float("inf")
"""Decay over so many steps or days: none."""

POPULARITY: Final = "popularity"
COVISITATION: Final = "co-visitation"
IMPLICIT_ALS: Final = "iALS"
VMIS_KNN: Final = "VMIS-kNN"
V_STAN: Final = "V-STAN"
OWN_ITEMS_FIRST: Final = "V-STAN, own items first"
PERSONAL_FREQUENCY: Final = "personal frequency"

SomeBaseline = TypeVar("SomeBaseline", bound=Baseline, covariant=True)  # noqa: PLC0105

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Space(Generic[SomeBaseline]):
    """What is tuned of a baseline: how a trial's parameters make one, and parameters to begin with."""

    suggest: Callable[[BaseTrial], SomeBaseline]
    start: Mapping[str, float]


@dataclass(frozen=True)
class BestTrial:
    """The best parameters by name, and the score they gave on the requests of the study."""

    parameters: Mapping[str, float]
    score: float


@dataclass(frozen=True)
class Tuned(Generic[SomeBaseline]):
    """A baseline with its best parameters."""

    baseline: SomeBaseline
    best: BestTrial


@dataclass(frozen=True)
class TunedBaselines:
    """All baselines by name; the tuned popularity stands behind what any of them scores."""

    popularity: Tuned[Popularity]
    by_name: Mapping[str, Tuned[Baseline]]

    def fit(self, past: Past) -> dict[str, FittedBaseline]:
        """Every baseline, fitted on a past; shows progress."""
        popular = self.popularity.baseline.order(past)
        progress = tqdm(self.by_name.items(), desc="fitting baselines", unit="method", leave=False)
        return {name: FittedBaseline(past, tuned.baseline.fit(past), popular) for name, tuned in progress}


@dataclass(frozen=True)
class Studies:
    """What all studies share: the past to fit on, the requests, the metric to raise, and how often to try."""

    past: Past
    requests: Replay
    metric: str
    trials: int

    def tune(self, name: str, space: Space[SomeBaseline], popular: Int32) -> Tuned[SomeBaseline]:
        """The best of the trials. ``popular`` items stand behind what the baseline scores."""
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=SEED))
        study.enqueue_trial(dict(space.start))
        with tqdm(total=self.trials, desc=f"tuning, {name}", unit="trial", leave=False) as progress:

            def score(trial: BaseTrial) -> float:
                progress.update()
                return self._score(space.suggest(trial), popular)

            study.optimize(score, self.trials)
        logger.info("%s: %s %.4f with %s", name, self.metric, study.best_value, study.best_params)
        best = BestTrial(study.best_params, study.best_value)
        return Tuned(space.suggest(FixedTrial(study.best_params)), best)

    def _score(self, baseline: Baseline, popular: Int32) -> float:
        slates = FittedBaseline(self.past, baseline.fit(self.past), popular).answers(self.requests)
        found = slate_quality(slates, self.requests.wanted, self.requests.offsets)
        return float(getattr(found, self.metric).mean())


def tune_all(studies: Studies) -> TunedBaselines:
    """Tune every baseline."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    popularity = studies.tune(POPULARITY, POPULARITY_SPACE, popular=np.zeros(0, np.int32))
    popular = popularity.baseline.order(studies.past)
    v_stan = studies.tune(V_STAN, V_STAN_SPACE, popular)
    return TunedBaselines(
        popularity,
        {
            POPULARITY: popularity,
            PERSONAL_FREQUENCY: studies.tune(PERSONAL_FREQUENCY, PERSONAL_FREQUENCY_SPACE, popular),
            COVISITATION: studies.tune(COVISITATION, COVISITATION_SPACE, popular),
            IMPLICIT_ALS: studies.tune(IMPLICIT_ALS, IMPLICIT_ALS_SPACE, popular),
            VMIS_KNN: studies.tune(VMIS_KNN, VMIS_KNN_SPACE, popular),
            V_STAN: v_stan,
            OWN_ITEMS_FIRST: studies.tune(OWN_ITEMS_FIRST, own_items_first_space(v_stan.baseline), popular),
        },
    )


def _popularity(trial: BaseTrial) -> Popularity:
    return Popularity(half_life=trial.suggest_float("half_life", 0.25, 365, log=True))


def _covisitation(trial: BaseTrial) -> Covisitation:
    return Covisitation(decay=trial.suggest_float("decay", 0.01, 1.0))


def _implicit_als(trial: BaseTrial) -> ImplicitALS:
    return ImplicitALS(
        factors=trial.suggest_int("factors", 16, 256, log=True),
        regularization=trial.suggest_float("regularization", 1e-3, 100, log=True),
        alpha=trial.suggest_float("alpha", 1, 100, log=True),
        iterations=trial.suggest_int("iterations", 2, 20),
    )


def _vmis_knn(trial: BaseTrial) -> SessionNeighbours:
    """Sessions and items count by position and by the item's rarity alone (Kersbergen et al., SIGMOD 2022).

    Its position weights, which fall linearly, are approximated by ones that fall exponentially.
    """
    return SessionNeighbours(
        NeighbourWeights(
            items=trial.suggest_int("items", 5, 50, log=True),
            sessions=trial.suggest_int("sessions", 100, 1000, log=True),
            neighbours=trial.suggest_int("neighbours", 50, 1000, log=True),
            step_decay=trial.suggest_float("step_decay", 0.3, 20, log=True),
            session_age=NEUTRAL,
            distance=NEUTRAL,
            rarity=0.0,
            novelty=trial.suggest_float("novelty", 0, 1),
        )
    )


def _v_stan(trial: BaseTrial) -> SessionNeighbours:
    return SessionNeighbours(
        NeighbourWeights(
            items=trial.suggest_int("items", 5, 50, log=True),
            sessions=trial.suggest_int("sessions", 100, 1000, log=True),
            neighbours=trial.suggest_int("neighbours", 50, 1000, log=True),
            step_decay=trial.suggest_float("step_decay", 0.3, 20, log=True),
            session_age=trial.suggest_float("session_age", 1, 365, log=True),
            distance=trial.suggest_float("distance", 0.5, 50, log=True),
            rarity=trial.suggest_float("rarity", 0, 2),
            novelty=trial.suggest_float("novelty", 0, 1),
        )
    )


def _personal_frequency(trial: BaseTrial) -> PersonalFrequency:
    return PersonalFrequency(
        half_life=trial.suggest_float("half_life", 0.001, 365, log=True),
        purchase=trial.suggest_float("purchase", 1, 10, log=True),
    )


POPULARITY_SPACE: Final = Space(_popularity, {"half_life": HALF_LIFE / DAY})
PERSONAL_FREQUENCY_SPACE: Final = Space(_personal_frequency, {"half_life": 14.0, "purchase": 1.0})
COVISITATION_SPACE: Final = Space(_covisitation, {"decay": RECENCY_DECAY})
IMPLICIT_ALS_SPACE: Final = Space(
    _implicit_als, {"factors": 64, "regularization": 1.0, "alpha": 10.0, "iterations": 15}
)
VMIS_KNN_SPACE: Final = Space(
    _vmis_knn, {"items": 10, "sessions": 500, "neighbours": 100, "step_decay": 3.0, "novelty": 1.0}
)
V_STAN_SPACE: Final = Space(_v_stan, NeighbourWeights()._asdict())


def own_items_first_space(v_stan: SessionNeighbours) -> Space[OwnItemsFirst]:
    """What is tuned besides V-STAN, which stays as it was tuned alone."""

    def suggest(trial: BaseTrial) -> OwnItemsFirst:
        return OwnItemsFirst(
            v_stan,
            boost=trial.suggest_float("boost", 0.01, 10, log=True),
            decay=trial.suggest_float("decay", 0.5, 50, log=True),
        )

    return Space(suggest, {"boost": 1.0, "decay": 4.0})
