"""Erasing a shopper: who is meant, where something may lie, and which erasures are not done yet.

erasures/<hash>.<microseconds>.json    an erasure that was acknowledged and is not done; it goes when it is
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.arrays import Bool, Int64
from feature_repo.durable_file import replace_file, sync
from feature_repo.events import LoggedEvent
from feature_repo.schema import EventType, shopper_key
from feature_repo.tombstones import Tombstones


class Store(StrEnum):
    """Where something of a shopper may lie."""

    EVENT_LOG = "event_log"
    DEAD_LETTERS = "dead_letters"
    SESSION_WINDOWS = "session_windows"
    EXPOSURES = "exposures"
    LINKS = "links"
    DEDUP_MARKS = "dedup_marks"
    ONLINE_FEATURES = "online_features"
    ARCHIVE = "archive"
    OFFLINE_FEATURES = "offline_features"
    CATALOG = "catalog"
    SERVED_LOG = "served_log"
    IMPORT_REJECTS = "import_rejects"
    QUALITY_REPORTS = "quality_reports"
    TRAINING_INPUTS = "training_inputs"
    MODEL_BUNDLES = "model_bundles"


ONLINE: Final = (
    Store.EVENT_LOG,
    Store.DEAD_LETTERS,
    Store.SESSION_WINDOWS,
    Store.EXPOSURES,
    Store.LINKS,
    Store.DEDUP_MARKS,
    Store.ONLINE_FEATURES,
)
"""In Redis: erased before the erasure is acknowledged."""
ON_DISK: Final = tuple(store for store in Store if store not in ONLINE)
"""Under FRESHET_HOME: erased by ``freshet erase``."""

Removed = Mapping[Store, int]
"""How many entries, rows or keys of each store were removed."""


class Trace(NamedTuple):
    """What an event left online beside its entry in the log: its mark, and its place with a shopper.

    item_id: of an impression, else None; timestamp: microseconds since 1970, UTC.
    """

    event_id: str
    shopper: str
    item_id: str | None
    timestamp: int

    @classmethod
    def of(cls, event: LoggedEvent) -> Self:
        """The trace of an event."""
        shown = event.item_id if event.event_type == EventType.IMPRESSION else None
        return cls(event.event_id, event.shopper, shown, event.timestamp)


@dataclass(frozen=True)
class Erasure:
    """A user with the visitors linked to it, or visitors alone, and the moment (microseconds since 1970, UTC).

    What happened or arrived up to then is erased, whoever else it names; what comes later is a new life.
    """

    user_id: str | None
    visitor_ids: frozenset[str]
    erased_at: int

    @property
    def shopper_keys(self) -> list[str]:
        """The user's key first, then those of the visitors."""
        users = [shopper_key(self.user_id, None)] if self.user_id else []
        return users + [shopper_key(None, visitor_id) for visitor_id in sorted(self.visitor_ids)]

    def with_visitors(self, visitor_ids: Iterable[str]) -> "Erasure":
        """The same erasure of more visitors."""
        return replace(self, visitor_ids=self.visitor_ids | frozenset(visitor_ids))

    def covers(self, event: LoggedEvent) -> bool:
        """Whether the event is to be erased."""
        theirs = (self.user_id is not None and event.user_id == self.user_id) or (
            event.visitor_id in self.visitor_ids
        )
        return theirs and min(event.timestamp, event.arrival_time) <= self.erased_at

    def covers_letter(self, content: bytes) -> bool:
        """Whether an entry is to be erased that may be no event: then naming an id of theirs is enough."""
        try:
            return self.covers(LoggedEvent.from_json(content))
        except (ValueError, TypeError):
            ids = [*self.visitor_ids, *([self.user_id] if self.user_id else [])]
            return any(orjson.dumps(an_id) in content for an_id in ids)


def covered(
    erasures: Sequence[Erasure], users: pa.ChunkedArray, visitors: pa.ChunkedArray, times: Int64
) -> Bool:
    """bool[n]: the rows that some erasure covers, by user, visitor and time (microseconds) of each."""
    found = np.zeros(len(times), dtype=bool)
    for erasure in erasures:
        theirs = is_in(visitors, erasure.visitor_ids)
        if erasure.user_id:
            theirs |= is_in(users, [erasure.user_id])
        found |= theirs & (times <= erasure.erased_at)
    return found


def is_in(column: pa.ChunkedArray, values: Iterable[str]) -> Bool:
    """bool[n]: the texts that are among some values; a missing one is not."""
    wanted = pa.array(sorted(values), pa.string())
    flags: Bool = pc.is_in(column.cast(pa.string()), value_set=wanted).to_numpy(zero_copy_only=False)
    return flags.astype(bool)


class PendingErasures:
    """What was acknowledged and is not done. Its files name the shopper, so the folder is its owner's alone."""

    def __init__(self, folder: Path, tombstones: Tombstones) -> None:
        self._folder = folder
        self._tombstones = tombstones

    def put(self, erasure: Erasure) -> None:
        """Have an erasure carried out, whatever is killed from here on; nothing of before can come back."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = {
            "user_id": erasure.user_id,
            "visitor_ids": sorted(erasure.visitor_ids),
            "erased_at": erasure.erased_at,
        }
        replace_file(self._path(erasure), orjson.dumps(content))
        self._tombstones.add(erasure.shopper_keys, erasure.erased_at)

    def all(self) -> list[Erasure]:
        """The erasures that are not done."""
        found = []
        for path in sorted(self._folder.glob("[!.]*.json")):
            with suppress(FileNotFoundError):  # another process has done it meanwhile
                found.append(orjson.loads(path.read_bytes()))
        return [
            Erasure(entry["user_id"], frozenset(entry["visitor_ids"]), entry["erased_at"]) for entry in found
        ]

    def done(self, erasure: Erasure) -> None:
        """Take note that nothing is left to do."""
        self._path(erasure).unlink(missing_ok=True)
        sync(self._folder)

    def _path(self, erasure: Erasure) -> Path:
        # Named by whom the erasure was asked for, which stays when more visitors are found.
        first, *_ = erasure.shopper_keys
        return self._folder / f"{self._tombstones.hash_of(first)}.{erasure.erased_at}.json"
