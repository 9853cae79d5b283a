"""The requests that a training run replays, with what was known at the time, and the bundles that answer them."""

from dataclasses import replace

import numpy as np

from serving.bundle import Availability, Bundle
from serving.bundle_files import read_bundle
from training.arrivals import replay_arrivals
from training.content import content_neighbours
from training.feature_history import user_statistics_at
from training.replay import Replay, replay, window_ttl
from training.training_run import TrainingRun


def replayed(run: TrainingRun, start: int, end: int) -> Replay:
    """The requests whose next item came in [start, end), of shoppers who have a window."""
    requests = replay(run.log, start, end, run.settings.window_size, window_ttl(run.settings)).with_window()
    return requests.with_activity(run.activity)


def replayed_arrivals(run: TrainingRun, start: int, end: int) -> Replay:
    """The visits that began in [start, end), of shoppers who have a window."""
    ttl = window_ttl(run.settings)
    return replay_arrivals(run.log, start, end, run.settings.window_size, ttl).with_activity(run.activity)


def with_user_history(run: TrainingRun, requests: Replay) -> Replay:
    """The requests with the statistics of their shoppers as they stood at the moment of asking."""
    if not len(requests):
        return requests
    keys = requests.log.shopper_keys[requests.shopper]
    return requests.with_user_statistics(user_statistics_at(run.settings, keys, requests.as_of))


def read_judged(run: TrainingRun) -> Bundle:
    """The bundle that knows nothing of the test part, as it answers the requests of that part."""
    return as_replayed(run, read_bundle(run.judged))


def as_replayed(run: TrainingRun, bundle: Bundle) -> Bundle:
    """A bundle, of the run or of another training, as it answers requests of the past.

    It may show all that the run's catalog lists, and nothing else: what is sold out is known of the day on which a
    catalog was read, but not of the days that are replayed.
    """
    listed = np.isin(bundle.item_ids, run.shop.item_ids[run.shop.listed])
    if np.array_equal(listed, bundle.availability.available):
        return bundle
    of_run = np.array_equal(bundle.items.content, run.shop.content)
    alike = run.shop.alike_listed if of_run else content_neighbours(bundle.items.content, listed)
    return replace(bundle, availability=Availability(listed), alike=alike)
