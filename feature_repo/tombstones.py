"""Tombstones: who was erased and when, as keyed hashes, so that nothing of before comes back.

    archive/.erased/key                      32 random bytes, readable by their owner alone
    archive/.erased/<hash>.<microseconds>    an empty file for each erased user or visitor

The hash is HMAC-SHA256 of the shopper key: it tells nobody who was erased, but recognises who comes again.
"""

import hmac
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.arrays import Bool, Int64
from feature_repo.durable_file import sync, write_synced
from feature_repo.events import LoggedEvent
from feature_repo.schema import Event, shopper_key

_KEY_BYTES: Final = 32
_NEVER: Final = np.iinfo(np.int64).min
_SETTLED_NS: Final = 1_000_000_000
"""A folder may change twice within one tick of the file system's clock; no tick is that long."""


class Tombstones:
    """The tombstones of the archive under ``root``; several processes may add and read at a time."""

    def __init__(self, root: Path) -> None:
        self._folder = root / ".erased"
        self._secret: bytes | None = None
        self._erased: dict[str, int] = {}
        self._listed: int | None = None

    def add(self, shopper_keys: Iterable[str], erased_at: int) -> None:
        """Have what happened up to ``erased_at`` (microseconds) stay away; on disk when this returns."""
        for key in shopper_keys:
            (self._folder / f"{self.hash_of(key)}.{erased_at}").touch(mode=0o600)
        sync(self._folder)
        self._listed = None

    def erased_at(self, key: str) -> int | None:
        """When the shopper of a key was last erased, in microseconds; None for who never was."""
        erased = self._list()
        return erased.get(self.hash_of(key)) if erased else None

    def cover(self, events: Sequence[LoggedEvent]) -> list[bool]:
        """Of each event, whether it happened before its user or visitor was erased."""
        erased = self._list()
        if not erased:
            return [False] * len(events)
        return [
            any(erased.get(self.hash_of(key), _NEVER) >= event.timestamp for key in _keys_of(event))
            for event in events
        ]

    def without_erased(self, events: pa.Table) -> pa.Table:
        """Events of EVENT_SCHEMA that happened, and arrived, after the erasure of those they name."""
        if not self._list():
            return events
        times = (events[name].cast(pa.int64()) for name in (Event.TIMESTAMP, Event.ARRIVAL))
        erased = self.covering(
            events[Event.USER], events[Event.VISITOR], pc.min_element_wise(*times).to_numpy()
        )
        return events.filter(pa.array(~erased))

    def covering(self, users: pa.ChunkedArray, visitors: pa.ChunkedArray, happened: Int64) -> Bool:
        """bool[n]: the rows whose user or visitor was erased at or after the moment (microseconds) of each."""
        by_user = self._horizons(users, lambda user_id: shopper_key(user_id, None))
        by_visitor = self._horizons(visitors, lambda visitor_id: shopper_key(None, visitor_id))
        found: Bool = np.maximum(by_user, by_visitor) >= happened
        return found

    def hash_of(self, key: str) -> str:
        """The hash of a shopper key, in hexadecimal."""
        if self._secret is None:
            self._secret = self._read_secret()
        return hmac.digest(self._secret, key.encode(), "sha256").hex()

    def _horizons(self, ids: pa.ChunkedArray, key_of: Callable[[str], str]) -> Int64:
        """int64[n]: when the shopper of each id was last erased; _NEVER where that never was, or no id is."""
        erased = self._list()
        if not erased:
            return np.full(len(ids), _NEVER)
        encoded = ids.cast(pa.string()).combine_chunks().dictionary_encode()
        names = encoded.dictionary.to_pylist()
        times = [erased.get(self.hash_of(key_of(name)), _NEVER) if name else _NEVER for name in names]
        return np.array([*times, _NEVER], np.int64)[encoded.indices.fill_null(len(names)).to_numpy()]

    def _list(self) -> dict[str, int]:
        """Hash -> the last erasure."""
        try:
            changed = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            return {}
        if changed != self._listed:
            erased: dict[str, int] = {}
            for name in os.listdir(self._folder):
                digest, dot, moment = name.partition(".")
                if dot and moment.isdigit():
                    erased[digest] = max(int(moment), erased.get(digest, _NEVER))
            self._erased = erased
            self._listed = changed if time.time_ns() - changed > _SETTLED_NS else None
        return self._erased

    def _read_secret(self) -> bytes:
        """The key of the hashes, made when it is first needed; of all who make one at once, the first wins."""
        path = self._folder / "key"
        if not path.exists():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            staged = self._folder / f".key.{secrets.token_hex(8)}.tmp"
            staged.touch(mode=0o600)
            write_synced(staged, secrets.token_bytes(_KEY_BYTES))
            with suppress(FileExistsError):
                os.link(staged, path)
            staged.unlink()
            sync(self._folder)
        return path.read_bytes()


def _keys_of(event: LoggedEvent) -> Iterator[str]:
    if event.user_id:
        yield shopper_key(event.user_id, None)
    if event.visitor_id:
        yield shopper_key(None, event.visitor_id)
