"""Batch features at rest are forgotten after their time, but not what an unfinished training joins."""

from feature_repo.offline_store import forget_before
from feature_repo.schema import DAY
from feature_repo.session_features import SESSION_GAP
from feature_repo.settings import Settings
from training.training_run import unfinished_plans


def forget_features(settings: Settings, as_of: int) -> None:
    """Remove the files that are older than the settings keep before a moment (microseconds).

    What held when the first request was made that an unfinished training replays stays. To be called under the
    features' lock: a training that begins has its features before it has a plan.
    """
    kept_from = as_of - int(settings.features_kept_days * DAY)
    # A request is made in the session of its next item, so at most that long before the replayed part begins.
    joined_from = [plan.split.ranker - SESSION_GAP for plan in unfinished_plans(settings)]
    forget_before(settings.features_dir, min([kept_from, *joined_from]))
