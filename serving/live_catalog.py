"""The catalog as it is now, laid over the live bundle: availability and prices act at once, in every server."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from feature_repo.catalog import read_items
from feature_repo.catalog_changes import CatalogChange, CatalogLog, LoggedChange
from feature_repo.errors import LogUnavailableError
from feature_repo.schema import Item
from serving.bundle import Bundle
from serving.served.catalog_state import differences, own_arrays, rows_at
from serving.served.state_journal import StateJournal, StateLayer

KEPT_SECONDS: Final = 60.0
"""So long the log keeps a change. Who has not looked for half of that reads the whole catalog again."""


class LiveCatalog:
    """Follows the changes, and keeps the arrays of one bundle as they say."""

    def __init__(self, log: CatalogLog, folder: Path, journal: StateJournal) -> None:
        self._log = log
        self._folder = folder
        self.journal = journal
        self._seen: str | None = None
        self._looked_at = time.monotonic()
        self._followed: _Followed | None = None
        self._changed: dict[str, Mapping[str, Any]] = {}

    async def look(self) -> None:
        """Take over what changed since the last look; while the log is away nothing changes."""
        followed = self._followed
        if followed is not None:
            followed.states.renew()
        try:
            if time.monotonic() - self._looked_at > KEPT_SECONDS / 2 and followed is not None:
                followed.states.state = None
                await self._lay_over(followed.bundle)
                followed.states.begin()
            self._take(await self._log.after(self._seen))
        except LogUnavailableError:
            return
        self._looked_at = time.monotonic()

    async def lay_over(self, bundle: Bundle) -> Bundle:
        """The bundle with arrays of its own for what changes; from now on they are kept as the catalog is."""
        states = self.journal.layer(lambda: differences(own, bundle))
        own = replace(own_arrays(bundle), states=states)
        await self._lay_over(own)
        states.begin()
        self._followed, self._changed = _Followed(own, states), {}
        return own

    def changed(self, item_id: str) -> Mapping[str, Any]:
        """What changed of an item since the bundle was laid under."""
        return self._changed.get(item_id, {})

    async def _lay_over(self, bundle: Bundle) -> None:
        """Bring a bundle's arrays to what the file and the log say."""
        try:
            recent = await self._log.after(None)  # before the file is read, so that none falls between
        except LogUnavailableError:
            recent = []
        await asyncio.to_thread(_lay_file_over, bundle, self._folder)
        for entry in recent:
            _apply(bundle, entry.change)

    def _take(self, entries: list[LoggedChange]) -> None:
        for entry in entries:
            self._seen = entry.entry_id
            if self._followed is not None:
                _apply(self._followed.bundle, entry.change)
                before = self._changed.get(entry.change.item_id, {})
                self._changed[entry.change.item_id] = {**before, **entry.change.values}
        if self._followed is not None:
            known = self._followed.bundle.item_index
            index = {known[entry.change.item_id] for entry in entries if entry.change.item_id in known}
            if index:
                self._followed.states.note(rows_at(self._followed.bundle, np.array(sorted(index), np.int32)))


class _Followed(NamedTuple):
    """A bundle whose arrays are kept as the catalog is, and where that is written down."""

    bundle: Bundle
    states: StateLayer


def _lay_file_over(bundle: Bundle, folder: Path) -> None:
    items = read_items(folder)
    row = pd.Index(items[Item.ID].to_numpy()).get_indexer(pd.Index(bundle.item_ids))
    index = np.flatnonzero(row >= 0)
    available = items[Item.AVAILABLE].fill_null(True).to_numpy()  # noqa: FBT003
    price = items[Item.PRICE].to_numpy().astype(np.float32)
    bundle.availability.available[index] = available[row[index]]
    priced = index[~np.isnan(price[row[index]])]
    bundle.items.price[priced] = price[row[priced]]
    bundle.items.price_missing[priced] = False


def _apply(bundle: Bundle, change: CatalogChange) -> None:
    index = bundle.item_index.get(change.item_id)
    if index is None:
        return  # it comes with the next refresh
    if Item.AVAILABLE in change.values:
        said = change.values[Item.AVAILABLE]
        bundle.availability.available[index] = True if said is None else said
    if Item.PRICE in change.values:
        price = change.values[Item.PRICE]
        bundle.items.price_missing[index] = price is None
        if price is not None:
            bundle.items.price[index] = price
