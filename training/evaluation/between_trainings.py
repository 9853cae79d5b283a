"""Between trainings: what is it worth to assemble the model anew, every hour, from what has happened since?"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa

from feature_repo.arrays import Bool, Int32, Int64
from feature_repo.schema import DAY, HOUR, Item
from serving.bundle import Availability, Bundle
from serving.recommender import Recommender
from training.assemble import assemble
from training.evaluation.methods import ranked_slates, slates
from training.evaluation.metrics import Scores
from training.evaluation.next_item import any_item
from training.evaluation.requests import met_before
from training.evaluation.results import Comparison, compare, quality_of
from training.learned import Learned
from training.replay import Replay
from training.run_replays import with_user_history
from training.training_run import TrainingRun

PERIOD: Final = DAY
EVERY: Final = HOUR
STATIC: Final = "as trained"
REFRESHED: Final = "refreshed every hour"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BetweenTrainings:
    """The first day after a training, asked in time order: the model as it was, and assembled anew every hour.

    All targets count. scores by name; gain: what refreshing adds on the same requests; never_met_share: of the
    targets, those that nobody had met when the model was trained; refreshes: how many hours asked for one.
    """

    scores: dict[str, Scores]
    gain: Comparison
    never_met_share: float
    refreshes: int


def between_trainings(run: TrainingRun, trained: Bundle, size: int, seed: int) -> BetweenTrainings | None:
    """Ask at most ``size`` requests (0 for all) of the day after the bundle ``trained`` of a run; None without any.

    A request of an hour is answered by what was known when the hour began; all may show what ``trained`` may.
    """
    start = _reopening(run)
    end = min(start + PERIOD, run.plan.split.end)
    requests = any_item(run.log, start, end, run.settings).sample(size, seed).replay
    if not len(requests):
        return None
    requests = with_user_history(run, requests).with_activity(run.activity)
    static = _answers(requests, trained, run)
    refreshed, refreshes = static.copy(), 0
    learned = Learned.of(trained, trained.item_ids)
    for moment, rows in _by_hour(requests.as_of, start):
        if moment > start:  # until then it is what was trained
            bundle = _refreshed(run, trained, learned, moment)
            refreshed[rows] = _answers(requests.take(rows), bundle, run)
            refreshes += 1
    quality = {STATIC: quality_of(static, requests), REFRESHED: quality_of(refreshed, requests)}
    return BetweenTrainings(
        scores={name: Scores.of(found, requests.shopper) for name, found in quality.items()},
        gain=compare(quality[REFRESHED], quality[STATIC], requests.shopper),
        never_met_share=float((~met_before(run.log, start))[requests.wanted].mean()),
        refreshes=refreshes,
    )


def _reopening(run: TrainingRun) -> int:
    """When anybody takes anything for the first time after the training, or never: shops close on Sundays."""
    times = run.log.interactions().time
    return int(times[times >= run.plan.split.test].min(initial=run.plan.split.end))


def _by_hour(as_of: Int64, start: int) -> Iterator[tuple[int, Int64]]:
    """Beginning of each hour when somebody asks, with the rows of its requests; earlier ones are of the first."""
    hour = np.maximum(as_of - start, 0) // EVERY
    for number in np.unique(hour).tolist():
        yield start + number * EVERY, np.flatnonzero(hour == number)


def _refreshed(run: TrainingRun, trained: Bundle, learned: Learned, moment: int) -> Bundle:
    manifest = replace(trained.manifest, created=moment, training_end=moment)
    bundle = assemble(run.log, run.shop, manifest, learned, as_of=moment)
    return replace(bundle, availability=trained.availability, alike=trained.alike)


def _answers(requests: Replay, bundle: Bundle, run: TrainingRun) -> Int32:
    """int32[n, CUTOFF]: slates in the codes of the run's log, which those of its bundles are.

    A bundle of a run has the items of all of its log. What neither the catalog has named nor anybody met before the
    bundle's moment, a server would not know, and could not show even to who comes from it.
    """
    named = _described(run.shop.catalog) | (bundle.items.first_seen >= 0)
    known = replace(bundle, availability=Availability(bundle.availability.available & named))
    recommender = Recommender(known, run.settings.candidates)
    return slates(requests, known, ranked_slates(recommender), REFRESHED)


def _described(catalog: pa.Table) -> Bool:
    """bool[items]: of which the catalog says anything but the id."""
    said: Bool = np.any([column.is_valid().to_numpy() for column in catalog.drop([Item.ID]).columns], axis=0)
    return said
