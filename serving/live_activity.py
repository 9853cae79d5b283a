"""What happens to the items right now, as ``freshet stream`` publishes it, in the indexes of the live model."""

import asyncio
import logging
import time
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.activity_message import ITEM, MESSAGE_SECONDS, PublishedActivity
from feature_repo.errors import BundleError, LogUnavailableError
from feature_repo.event_log import EventLog
from feature_repo.item_activity import ACTIVITY_COUNTS, UNKNOWN_ACTIVITY, Activity, ActivityTable
from feature_repo.schema import SECOND
from serving.bundle import Bundle
from serving.live_model import LiveModel
from serving.served.activity_state import WrittenActivity, all_rows, changed_rows
from serving.served.state_journal import StateJournal, StateLayer

NOTHING_COUNTED: Final = ActivityTable(
    np.zeros((0, len(ACTIVITY_COUNTS)), np.int32), np.zeros(len(ACTIVITY_COUNTS), np.int64)
)

logger = logging.getLogger(__name__)


class LiveActivity:
    """Follows what is published."""

    def __init__(self, log: EventLog, model: LiveModel, journal: StateJournal) -> None:
        self._log = log
        self._model = model
        self._journal = journal
        self._message: bytes | None = None
        self._published: PublishedActivity | None = None
        self._bundle: Bundle | None = None
        self._table: WrittenActivity | None = None
        self._counted = NOTHING_COUNTED
        self._states: StateLayer | None = None

    async def look(self) -> None:
        """Take over what was published since, and what the live model makes of it."""
        try:
            message, bundle = await self._log.published_activity(), self._model.recommender.bundle
        except (LogUnavailableError, BundleError):
            return  # what is known already holds for a while
        if message == self._message and bundle is self._bundle:
            return
        self._message, self._published = message, None
        try:
            self._published = None if message is None else PublishedActivity.from_bytes(message)
        except (pa.ArrowInvalid, KeyError) as error:
            logger.warning("the published item counts cannot be read: %s", error)
        if self._published is not None:
            self._table = await asyncio.to_thread(self._written, self._published, bundle)
            self._bundle = bundle

    def of(self, bundle: Bundle) -> Activity:
        """What is known now, to a bundle; nothing in the moment after the live one changed."""
        if self._table is None or self.age() is None or bundle is not self._bundle:
            return UNKNOWN_ACTIVITY
        return self._table

    def age(self) -> float | None:
        """Seconds since the counts were taken; None where nothing is known."""
        if self._published is None:
            return None
        age = time.time() - self._published.as_of / SECOND
        return max(age, 0.0) if age < MESSAGE_SECONDS else None

    def _written(self, published: PublishedActivity, bundle: Bundle) -> WrittenActivity:
        """The counts of a bundle's items, once they wait to be written down."""
        before, self._counted = self._counted, table_of(published, bundle)
        if self._states is None or bundle is not self._bundle:
            self._states = self._journal.layer(lambda: all_rows(self._counted))
            self._states.begin()
        elif len(changed := changed_rows(before, self._counted)):
            self._states.note(changed)
        return WrittenActivity(self._counted.counts, self._counted.totals, self._states.state)


def table_of(published: PublishedActivity, bundle: Bundle) -> ActivityTable:
    """The counts of a bundle's items."""
    counts = np.column_stack([published.counts[count.name].to_numpy() for count in ACTIVITY_COUNTS])
    index = pc.index_in(published.counts[ITEM], value_set=pa.array(bundle.item_ids, pa.string()))
    known = pc.is_valid(index).to_numpy()
    table = np.zeros((len(bundle.item_ids), len(ACTIVITY_COUNTS)), np.int32)
    table[index.drop_null().to_numpy()] = counts[known]
    return ActivityTable(table, counts.sum(axis=0, dtype=np.int64))
