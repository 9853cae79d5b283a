"""The changes of the catalog in the memory of one process, for tests."""

import time
from collections.abc import Sequence

from feature_repo.catalog_changes import CatalogChange, LoggedChange


class MemoryCatalogLog:
    """See CatalogLog."""

    def __init__(self) -> None:
        self._entries: list[LoggedChange] = []
        self._count = 0

    async def append(self, changes: Sequence[CatalogChange]) -> None:
        """See CatalogLog."""
        for change in changes:
            self._count += 1
            self._entries.append(LoggedChange(str(self._count), time.time_ns() // 1000, change))

    async def after(self, entry_id: str | None) -> list[LoggedChange]:
        """See CatalogLog."""
        return [entry for entry in self._entries if entry_id is None or int(entry.entry_id) > int(entry_id)]

    async def forget_before(self, moment: int) -> None:
        """See CatalogLog."""
        self._entries = [entry for entry in self._entries if entry.logged_at >= moment]
