"""The changes of the catalog in Redis: one stream."""

from collections.abc import Sequence

from redis.asyncio import Redis, RedisCluster

from feature_repo.catalog_changes import CatalogChange, LoggedChange
from feature_repo.redis_functions import explained
from feature_repo.redis_layout import CATALOG_KEY, CHANGE_FIELD
from feature_repo.schema import SECOND

_MILLISECOND = SECOND // 1000


class RedisCatalogLog:
    """See CatalogLog."""

    def __init__(self, client: "Redis | RedisCluster") -> None:
        self._client = client

    async def append(self, changes: Sequence[CatalogChange]) -> None:
        """See CatalogLog. One round trip."""
        with explained():
            async with self._client.pipeline(transaction=True) as pipe:
                for change in changes:
                    pipe.xadd(CATALOG_KEY, {CHANGE_FIELD: change.to_json()})
                await pipe.execute()

    async def after(self, entry_id: str | None) -> list[LoggedChange]:
        """See CatalogLog."""
        with explained():
            entries = await self._client.xrange(CATALOG_KEY, min="-" if entry_id is None else f"({entry_id}")
        return [
            LoggedChange(
                name.decode(),
                int(name.split(b"-")[0]) * _MILLISECOND,
                CatalogChange.from_json(fields[CHANGE_FIELD]),
            )
            for name, fields in entries
        ]

    async def forget_before(self, moment: int) -> None:
        """See CatalogLog."""
        with explained():
            await self._client.xtrim(CATALOG_KEY, minid=str(moment // _MILLISECOND), approximate=False)
