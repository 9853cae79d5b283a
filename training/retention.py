"""What was served, and what a replay of it needs, is forgotten after its time."""

import shutil
import time
from datetime import timedelta

from feature_repo.settings import Settings
from serving.served.date_folder import day_of, folders_before
from serving.served.served_log import ITEMS, REQUESTS
from serving.served.state_journal import ACTIVITY, CATALOG


def forget_served(settings: Settings) -> int:
    """Remove the folders of days that are past their time; returns how many."""
    today = day_of(time.time_ns() // 1000)
    kept = {
        settings.served_dir / REQUESTS: settings.served_log_days,
        settings.served_dir / ITEMS: settings.served_log_days,
        settings.replay_dir / CATALOG: settings.replay_days
        + 1,  # a state of yesterday may lie over today's model
        settings.replay_dir / ACTIVITY: settings.replay_days + 1,
    }
    old = [path for root, days in kept.items() for path in folders_before(root, today - timedelta(days=days))]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)  # another process may do the same
    return len(old)
