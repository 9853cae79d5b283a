"""The requests that a training run replays: of its log, with its settings, with what was known at the time."""

from training.arrivals import replay_arrivals
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
