"""User statistics as they stood when a request was made: written for moments of the past, joined by Feast."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.arrays import Float32, Int64, Strings
from feature_repo.batch_features import USER_STATISTICS
from feature_repo.offline_store import EVENT_TIMESTAMP, SHOPPER_KEY, View, write_snapshot
from feature_repo.schema import DAY, Event
from feature_repo.settings import Settings
from training.dataset import Split, encode
from training.features import user_rows

OFFLINE: Final = "redis://localhost"
"""An online store that a join over files never calls."""
MOMENTS: Final = 8
"""Most moments of the replayed part of a log; a live shop has one a day."""


def write_user_history(features_dir: Path, events: pa.Table, items: pa.Table, split: Split) -> None:
    """Write user statistics as of midnights of the replayed part of ``events``, from what was known by then."""
    shop, log = encode(events, items)
    times = events[Event.TIMESTAMP].cast(pa.int64())
    strangers = not log.identified.all()
    for moment in moments(split):
        if strangers:  # who they were may have come out only later
            shop, log = encode(events.filter(pc.less(times, moment)), items)
        rows = user_rows(shop, log, moment)
        if rows.num_rows:
            write_snapshot(features_dir, View.USER_STATISTICS, rows, moment)


def moments(split: Split) -> list[int]:
    """Midnights (UTC, microseconds) from the one before the replayed part on, evenly spaced, MOMENTS at most."""
    midnights = np.arange(split.ranker // DAY, split.end // DAY + 1) * DAY
    step = -(-len(midnights) // MOMENTS)
    return [int(midnight) for midnight in midnights[::step]]


def user_statistics_at(settings: Settings, shopper_keys: Strings, times: Int64) -> Float32:
    """float32[n, len(USER_STATISTICS)] of each shopper at a time (microseconds); NaN where it was not known."""
    from feature_repo.feature_store import historical_features, open_store

    asked_at = pd.to_datetime(times, unit="us", utc=True)
    asked = pd.DataFrame({SHOPPER_KEY: shopper_keys, EVENT_TIMESTAMP: asked_at})
    joined = historical_features(open_store(settings, OFFLINE), asked, [View.USER_STATISTICS])
    return joined[list(USER_STATISTICS)].to_numpy(dtype=np.float32)
