"""Changes of the catalog on their way to the file that trainings and refreshes read."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from feature_repo.catalog import read_items, upsert_items
from feature_repo.catalog_changes import CatalogLog, LoggedChange, changed_rows
from feature_repo.schema import SECOND
from serving.live_catalog import KEPT_SECONDS


class CatalogFile:
    """Follows the changes. Several may do so, and after a crash some are written again: in order, to the end."""

    def __init__(self, log: CatalogLog, folder: Path) -> None:
        self._log = log
        self._folder = folder
        self._seen: str | None = None

    async def write(self) -> int:
        """Write what changed since the last time; returns how many changes. What no server needs leaves the log.

        Raises LogUnavailableError, or OSError where the file has no place; nothing is forgotten then.
        """
        entries = await self._log.after(self._seen)
        if entries:
            await asyncio.to_thread(_write, self._folder, entries)
            self._seen = entries[-1].entry_id
        await self._log.forget_before(round((time.time() - KEPT_SECONDS) * SECOND))
        return len(entries)


def _write(folder: Path, entries: Sequence[LoggedChange]) -> None:
    rows = changed_rows(read_items(folder), (entry.change for entry in entries))
    if rows.num_rows:
        upsert_items(folder, rows)
