"""The served log: every slate with the features it was ranked by, as training will read it.

    served/requests/date=2025-06-01/<first>-<last>-<n>.parquet   one row per request: SERVED_REQUESTS
    served/items/date=2025-06-01/<first>-<last>-<n>.parquet      one row per shown item: SERVED_ITEMS

Dates are those of ``as_of``, of which a file's name has the first and the last. Requests wait in a bounded queue; a
thread of its own turns them into Arrow tables and writes them, so a request pays for one append only.
"""

import logging
import os
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from feature_repo.arrays import Bool
from feature_repo.durable_file import replace_file, to_parquet
from feature_repo.ranking_features import RANKING_COLUMNS, RANKING_HASH, SOURCES
from serving.metrics import Metrics
from serving.served.date_folder import folder_of
from serving.served.question_text import to_text
from serving.served.served_slate import ServedSlate
from serving.served.state_journal import StateJournal

logger = logging.getLogger(__name__)

BATCH: Final = 1000
"""Most requests of one file, which bounds the memory that writing takes."""


REQUESTS: Final = "requests"
ITEMS: Final = "items"
"""Folders of the two tables."""


class Served:
    """Columns of the served log. See SERVED_REQUESTS and SERVED_ITEMS for their types."""

    REQUEST = "request_id"
    AS_OF = "as_of"
    USER = "user_id"
    VISITOR = "visitor_id"
    PLACEMENT = "placement"
    MODEL = "model_version"
    BUNDLE = "bundle"
    QUESTION = "question"
    CANDIDATES = "candidates"
    CATALOG_STATE = "catalog_state"
    ACTIVITY_STATE = "activity_state"
    DEGRADED = "degraded"
    RANKED_BY = "ranked_by"
    POSITION = "position"
    ITEM = "item_id"
    SCORE = "score"
    SOURCES = "sources"
    FEATURES = "features"
    PROPENSITY = "propensity"
    PLACED_BY = "placed_by"


_SHARED: Final = [
    pa.field(Served.REQUEST, pa.string(), nullable=False),
    pa.field(Served.AS_OF, pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field(Served.USER, pa.string()),
    pa.field(Served.VISITOR, pa.string()),
    pa.field(Served.PLACEMENT, pa.string()),
    pa.field(Served.MODEL, pa.string(), nullable=False),
]
RANKING_SCHEMA: Final = b"ranking_schema"
"""Key of a file's metadata: the fingerprint of the ranking columns that its features are of."""
SERVED_REQUESTS: Final = pa.schema(
    [
        *_SHARED,
        pa.field(Served.BUNDLE, pa.string(), nullable=False),
        pa.field(Served.QUESTION, pa.string(), nullable=False),  # JSON: see question_text
        pa.field(Served.CANDIDATES, pa.int32(), nullable=False),
        pa.field(Served.CATALOG_STATE, pa.string()),
        pa.field(Served.ACTIVITY_STATE, pa.string()),
        pa.field(Served.DEGRADED, pa.list_(pa.string()), nullable=False),
        pa.field(Served.RANKED_BY, pa.string(), nullable=False),
    ]
)
SERVED_ITEMS: Final = pa.schema(
    [
        *_SHARED,
        pa.field(Served.POSITION, pa.int32()),  # from 1; null for a candidate that was not shown
        pa.field(Served.ITEM, pa.string(), nullable=False),
        pa.field(Served.SCORE, pa.float32()),  # null for a candidate that was not shown
        pa.field(Served.SOURCES, pa.list_(pa.string()), nullable=False),  # empty where none brought the item
        pa.field(Served.FEATURES, pa.list_(pa.float32(), len(RANKING_COLUMNS))),  # null for an item filled in
        pa.field(Served.PROPENSITY, pa.float64()),  # of being drawn, 1 without a draw; null for a candidate
        pa.field(Served.PLACED_BY, pa.string()),  # a rule, or null for the item's merit
    ],
    metadata={RANKING_SCHEMA: RANKING_HASH},
)


class ServedLog:
    """Writes served slates under ``root`` while ``running``.

    At most ``size`` of them wait to be written; more are dropped and counted. What the ``journals`` have is written
    before the slates that may name it.
    """

    def __init__(
        self,
        root: Path,
        size: int,
        flush_seconds: float,
        metrics: Metrics,
        journals: Sequence[StateJournal] = (),
    ) -> None:
        self._root = root
        self._size = size
        self._flush_seconds = flush_seconds
        self._journals = journals
        self._dropped = metrics.served_log_dropped
        # A deque, not a Queue: waking the writer for every slate would cost a request a change of threads.
        self._waiting: deque[ServedSlate] = deque()
        self._ending = threading.Event()
        self._files = 0
        metrics.watch_queue(self._waiting.__len__)

    def put(self, served: ServedSlate) -> None:
        """Have a slate written, if there is room for it to wait."""
        if len(self._waiting) < self._size:
            self._waiting.append(served)
        else:
            self._dropped.inc()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Write from here on; at the end all that waits is written."""
        writer = threading.Thread(target=self._write_all, name="served-log", daemon=True)
        writer.start()
        try:
            yield
        finally:
            self._ending.set()
            writer.join()

    def _write_all(self) -> None:
        while not self._ending.wait(self._flush_seconds):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        more = True
        while more:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
            more = len(batch) == BATCH
            try:
                for journal in self._journals:
                    journal.write()
                self._write(batch)
            except Exception:  # a full disk must not end the log for good
                self._dropped.inc(len(batch))
                logger.exception("%d served slates were not written", len(batch))

    def _write(self, batch: Sequence[ServedSlate]) -> None:
        dates: dict[str, list[ServedSlate]] = defaultdict(list)
        for served in batch:
            dates[folder_of(served.as_of)].append(served)
        for date, of_date in dates.items():
            self._files += 1
            moments = [served.as_of for served in of_date]
            name = f"{date}/{min(moments)}-{max(moments)}-{os.getpid()}-{self._files}.parquet"
            # Items go first: a request that can be read has its items.
            replace_file(self._root / ITEMS / name, to_parquet(items_table(of_date)))
            replace_file(self._root / REQUESTS / name, to_parquet(requests_table(of_date)))


def requests_table(batch: Sequence[ServedSlate]) -> pa.Table:
    """Table of SERVED_REQUESTS, one row per request."""
    return pa.table(
        [
            *_shared(batch),
            pa.array(served.bundle for served in batch),
            pa.array(to_text(served.question) for served in batch),
            pa.array((served.candidates for served in batch), pa.int32()),
            pa.array((served.catalog_state for served in batch), pa.string()),
            pa.array((served.activity_state for served in batch), pa.string()),
            pa.array((list(served.degraded) for served in batch), pa.list_(pa.string())),
            pa.array(served.ranked_by.value for served in batch),
        ],
        schema=SERVED_REQUESTS,
    )


def items_table(batch: Sequence[ServedSlate]) -> pa.Table:
    """Table of SERVED_ITEMS, one row per item, request by request."""
    sizes = [served.items.item_ids.size for served in batch]
    request = np.repeat(np.arange(len(batch)), sizes)
    row = np.concatenate([np.arange(size) for size in sizes])
    shown = row < np.repeat([served.items.scores.size for served in batch], sizes)
    scores, propensity = np.zeros(row.size, dtype=np.float32), np.zeros(row.size)
    scores[shown] = np.concatenate([served.items.scores for served in batch])
    propensity[shown] = np.concatenate([served.items.propensity for served in batch])
    placed_by = np.full(row.size, None)
    placed_by[shown] = list(chain.from_iterable(served.items.placed_by for served in batch))
    brought = np.concatenate([served.items.brought for served in batch])
    features = np.concatenate([served.items.features for served in batch])
    return pa.table(
        [
            *(column.take(pa.array(request)) for column in _shared(batch)),
            pa.array(row + 1, pa.int32(), mask=~shown),
            pa.array(np.concatenate([served.items.item_ids for served in batch]), pa.string()),
            pa.array(scores, mask=~shown),
            _source_names(brought),
            pa.FixedSizeListArray.from_arrays(
                pa.array(features.ravel()),
                len(RANKING_COLUMNS),
                mask=pa.array(~np.concatenate([served.items.ranked for served in batch])),
            ),
            pa.array(propensity, mask=~shown),
            pa.array(placed_by, pa.string()),
        ],
        schema=SERVED_ITEMS,
    )


def _shared(batch: Sequence[ServedSlate]) -> list[pa.Array]:
    return [pa.array([getattr(served, field.name) for served in batch], field.type) for field in _SHARED]


def _source_names(brought: Bool) -> pa.ListArray:
    ends = np.cumsum(brought.sum(axis=1, dtype=np.int32), dtype=np.int32)
    names = pa.array(SOURCES).take(pa.array(brought.nonzero()[1]))
    return pa.ListArray.from_arrays(pa.array(np.append(np.int32(0), ends)), names)
