"""Tuning finds the parameters that the requests ask for, and finds the same again."""

import numpy as np

from feature_repo.schema import DAY, MINUTE
from feature_repo.settings import Settings
from tests.training.tiny_log import Happened, at, encoded
from training.evaluation.baselines import Past
from training.evaluation.next_item import next_item
from training.evaluation.tuning import (
    COVISITATION,
    IMPLICIT_ALS,
    OWN_ITEMS_FIRST,
    PERSONAL_FREQUENCY,
    POPULARITY,
    POPULARITY_SPACE,
    V_STAN,
    V_STAN_SPACE,
    VMIS_KNN,
    Studies,
    tune_all,
)

DAYS = DAY // MINUTE
CUT = 100 * DAYS
NOBODY = np.zeros(0, np.int32)


def studies(happened: list[Happened], trials: int = 8) -> Studies:
    log = encoded(happened)
    past = Past.before(at(CUT), log, np.ones(len(log.item_ids), dtype=bool))
    return Studies(past, next_item(log, at(CUT), at(2 * CUT), Settings()).replay, "ndcg_at_10", trials)


def lately_popular() -> list[Happened]:
    """Twenty items were met often long ago, and one for some days; after the cut all go for that one."""
    old = [Happened(f"s{n}", f"old{n % 20:02}", n / 100) for n in range(2000)]
    new = [Happened(f"s{n}", "new", CUT - DAYS + n) for n in range(20)]
    after = [
        Happened(f"t{n}", item, CUT + 10 * n + place)
        for n in range(20)
        for place, item in enumerate(["old00", "new"])
    ]
    return [*old, *new, *after]


def test_the_best_parameters_are_found() -> None:
    tuned = studies(lately_popular()).tune(POPULARITY, POPULARITY_SPACE, NOBODY)
    assert tuned.best.score == 1
    assert tuned.baseline.half_life == tuned.best.parameters["half_life"] < 14.1


def test_a_study_begins_with_parameters_that_are_known_to_do_well() -> None:
    tuned = studies(lately_popular(), trials=1).tune(V_STAN, V_STAN_SPACE, NOBODY)
    assert tuned.best.parameters == V_STAN_SPACE.start


def test_the_same_studies_find_the_same() -> None:
    found = [studies(lately_popular(), trials=3).tune(V_STAN, V_STAN_SPACE, NOBODY) for _ in range(2)]
    assert found[0] == found[1]


def test_all_baselines_are_tuned_and_fitted() -> None:
    asked = studies(lately_popular(), trials=1)
    fitted = tune_all(asked).fit(asked.past)
    expected = (
        POPULARITY,
        PERSONAL_FREQUENCY,
        COVISITATION,
        IMPLICIT_ALS,
        VMIS_KNN,
        V_STAN,
        OWN_ITEMS_FIRST,
    )
    assert tuple(fitted) == expected
    for baseline in fitted.values():
        assert (baseline.answers(asked.requests)[:, 0] >= 0).all()
