"""The catalog as it is now, laid over the live bundle: availability and prices act at once, in every server."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pandas as pd

from feature_repo.arrays import Bool, Int32, Int64
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
        self.journal = journal
        self._log = log
        self._folder = folder
        self._followed: LaidOver | None = None
        self._turn = asyncio.Lock()

    async def lay_over(self, bundle: Bundle) -> "LaidOver":
        """The bundle with arrays of its own for what changes, as the catalog is now; ``follow`` keeps them so."""
        laid = LaidOver.of(bundle, self.journal)
        try:
            recent = await self._log.after(None)
        except LogUnavailableError:
            recent = []
        await asyncio.to_thread(laid.take_all, self._folder, recent)
        return laid

    async def follow(self, laid: "LaidOver") -> None:
        """Keep the arrays of this bundle as the catalog is, and no other's, from what changed meanwhile on."""
        async with self._turn:
            with suppress(LogUnavailableError):
                await self._catch_up(laid)
            laid.states.begin()
            self._followed = laid

    async def look(self) -> None:
        """Take over what changed since the last look; while the log is away nothing changes."""
        async with self._turn:
            if self._followed is not None:
                with suppress(LogUnavailableError):
                    await self._renew(self._followed)

    def changed(self, item_id: str) -> Mapping[str, Any]:
        """What changed of an item since, or just before, the bundle was laid under."""
        return self._followed.changed.get(item_id, {}) if self._followed is not None else {}

    async def _renew(self, laid: "LaidOver") -> None:
        laid.states.renew()
        index = await self._catch_up(laid)
        if laid.states.state is None:
            laid.states.begin()
        elif index.size:
            laid.states.note(rows_at(laid.bundle, index))

    async def _catch_up(self, laid: "LaidOver") -> Int32:
        """Take over what changed since the last look; returns the items. After long, all of it, without a state."""
        if time.monotonic() - laid.looked_at < KEPT_SECONDS / 2:
            return laid.take(await self._log.after(laid.seen))
        recent = await self._log.after(None)
        laid.states.state = None
        return await asyncio.to_thread(laid.take_all, self._folder, recent)


@dataclass
class LaidOver:
    """A bundle with arrays of its own for what changes, how far they are, and where that is written down.

    listed bool[items]: those that the catalog has; changed: values by item, of the changes taken since the file
    was; seen: the newest of them; looked_at: when all that there were had been taken, in seconds of time.monotonic.
    """

    bundle: Bundle
    states: StateLayer
    listed: Bool
    changed: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    seen: str | None = None
    looked_at: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, bundle: Bundle, journal: StateJournal) -> Self:
        """Arrays that say what those of the bundle do."""
        own = own_arrays(bundle)
        # Of what does not hold the layer: a cycle would keep a model that answers no more, and its open files.
        states = journal.layer(lambda: differences(own, bundle))
        return cls(replace(own, states=states), states, bundle.listed.copy())

    def take_all(self, folder: Path, recent: Sequence[LoggedChange]) -> Int32:
        """Take over what the file says, and what the log still has, read before it so that none falls between."""
        self.listed[_lay_file_over(self.bundle, folder)] = True
        self.changed = {}
        return self.take(recent)

    def take(self, entries: Sequence[LoggedChange]) -> Int32:
        """Take over all changes up to now, oldest first; returns int32[n], the items that changed."""
        changed = set()
        for entry_id, _, change in entries:
            self.seen = entry_id
            self.changed[change.item_id] = {**self.changed.get(change.item_id, {}), **change.values}
            index = self.bundle.item_index.get(change.item_id)
            if index is not None:  # else it comes with the next refresh
                self.listed[index] |= change.whole
                # Who tells of the stock of what is not sold does not put it on sale.
                if self.listed[index]:
                    _apply(self.bundle, index, change)
                    changed.add(index)
        self.looked_at = time.monotonic()
        return np.array(sorted(changed), np.int32)


def _lay_file_over(bundle: Bundle, folder: Path) -> Int64:
    """Bring a bundle's arrays to what the file says; returns the items, by index, that it names."""
    items = read_items(folder)
    row = pd.Index(items[Item.ID].to_numpy()).get_indexer(pd.Index(bundle.item_ids))
    index = np.flatnonzero(row >= 0)
    available = items[Item.AVAILABLE].fill_null(True).to_numpy()  # noqa: FBT003
    price = items[Item.PRICE].to_numpy().astype(np.float32)
    bundle.availability.available[index] = available[row[index]]
    priced = index[~np.isnan(price[row[index]])]
    bundle.items.price[priced] = price[row[priced]]
    bundle.items.price_missing[priced] = False
    return index


def _apply(bundle: Bundle, index: int, change: CatalogChange) -> None:
    if Item.AVAILABLE in change.values:
        said = change.values[Item.AVAILABLE]
        bundle.availability.available[index] = True if said is None else said
    if Item.PRICE in change.values:
        price = change.values[Item.PRICE]
        bundle.items.price_missing[index] = price is None
        if price is not None:
            bundle.items.price[index] = price
