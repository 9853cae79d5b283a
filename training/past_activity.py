"""Item activity as it stood at moments of the past, counted in the log."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from feature_repo.arrays import Float32, Int32, Int64
from feature_repo.encoded_log import EncodedLog
from feature_repo.item_activity import ACTIVITY_COUNTS, activity_features
from feature_repo.schema import SECOND, EventType
from feature_repo.session_features import UNKNOWN_ITEM

ARRIVAL_DELAY: Final = 3 * SECOND
"""What happened less than this ago, no server knows yet."""


@dataclass(frozen=True)
class PastActivity:
    """The events that each of ACTIVITY_COUNTS counts, by time.

    of_types: for the types of a count, times int64[m] (microseconds), ascending, and items int32[m], in the codes
    of the log.
    """

    of_types: dict[tuple[EventType, ...], tuple[Int64, Int32]]

    @classmethod
    def of(cls, log: EncodedLog) -> Self:
        """Of a log that holds impressions, too."""
        log = log.select(log.item != UNKNOWN_ITEM)
        order = np.argsort(log.time, kind="stable")
        time, item, kind = log.time[order], log.item[order], log.type[order]
        of_types = {}
        for types in {count.types for count in ACTIVITY_COUNTS}:
            counted = np.isin(kind, [event_type.code for event_type in types])
            of_types[types] = (time[counted], item[counted])
        return cls(of_types)

    def at(self, as_of: int, codes: Int32, items: int) -> "ActivityAt":
        """As it stood at a moment (microseconds), to a model of so many items.

        codes int32[items of the log]: the index of each in the model, UNKNOWN_ITEM where it does not know it.
        """
        return ActivityAt(self, as_of, codes, items)


@dataclass(frozen=True)
class ActivityAt:
    """See PastActivity.at. Counted only when it is asked for: a moment's table of all items would be large."""

    past: PastActivity
    as_of: int
    codes: Int32
    items: int

    def features(self, items: Int32) -> Float32:
        """See Activity."""
        return activity_features(*self.counts(items), self.items)

    def counts(self, items: Int32) -> tuple[Int32, Int64]:
        """int32[n, len(ACTIVITY_COUNTS)] of items int32[n], and int64[len(ACTIVITY_COUNTS)] of all."""
        counts, totals = [], []
        for count in ACTIVITY_COUNTS:
            times, met = self.past.of_types[count.types]
            span = slice(*np.searchsorted(times, [count.window.starts(self.as_of)[0], self.as_of]))
            known = self.codes[met[span]]
            counts.append(np.bincount(known[known != UNKNOWN_ITEM], minlength=self.items)[items])
            totals.append(span.stop - span.start)
        return np.stack(counts, axis=1).astype(np.int32), np.array(totals, np.int64)
