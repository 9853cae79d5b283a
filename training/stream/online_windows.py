"""Item activity on its way to Feast: pushed online, and only what changed."""

from functools import cached_property
from typing import TYPE_CHECKING

import pandas as pd

from feature_repo.activity_message import ITEM, PublishedActivity
from feature_repo.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore


class OnlineWindows:
    """Knows what was pushed last."""

    def __init__(self, settings: Settings, redis_url: str) -> None:
        self._settings = settings
        self._redis_url = redis_url
        self._pushed = pd.DataFrame(index=pd.Index([], name=ITEM))

    def push(self, activity: PublishedActivity) -> int:
        """Push the counts that differ from those pushed before, 0 for items no longer met; returns how many items.

        Raises OnlineStoreUnavailableError; what was not pushed then is pushed the next time.
        """
        from feature_repo.feature_store import push_item_windows

        counts = activity.counts.to_pandas().set_index(ITEM).astype("int64")
        counts = counts.reindex(counts.index.union(self._pushed.index), fill_value=0)
        before = self._pushed.reindex(index=counts.index, columns=counts.columns)
        changed = counts[(counts != before).any(axis=1)]
        if not changed.empty:
            push_item_windows(self._store, changed.reset_index(), activity.as_of)
        self._pushed = counts[counts.any(axis=1)]
        return len(changed)

    @cached_property
    def _store(self) -> "FeatureStore":
        from feature_repo.feature_store import open_store  # seconds, and only here needed

        return open_store(self._settings, self._redis_url)
