"""Changes of the catalog on their way to the file that trainings and refreshes read."""

import asyncio
import time
from pathlib import Path

import pyarrow as pa

from feature_repo.catalog import change_items
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
        entries: list[LoggedChange] = []
        if await self._log.after(self._seen):
            loop = asyncio.get_running_loop()

            def changed(items: pa.Table) -> pa.Table:
                # Asked for while nobody else writes, so that nothing undoes what another wrote that knew more.
                entries.extend(asyncio.run_coroutine_threadsafe(self._log.after(self._seen), loop).result())
                return changed_rows(items, (entry.change for entry in entries))

            await asyncio.to_thread(change_items, self._folder, changed)
        if entries:  # none where another wrote them meanwhile, and they have left the log
            self._seen = entries[-1].entry_id
        await self._log.forget_before(round((time.time() - KEPT_SECONDS) * SECOND))
        return len(entries)
