"""Changes of the catalog on their way to every server and to the file: what is sent over HTTP, in order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import orjson
import pyarrow as pa

from feature_repo.schema import ITEM_SCHEMA, Item


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """New values of an item's columns of ITEM_SCHEMA; those not named stay. ``whole`` names all of them.

    ``created_at`` is microseconds since 1970, UTC; ``properties`` the text of a JSON object.
    """

    item_id: str
    values: Mapping[str, Any]

    @property
    def whole(self) -> bool:
        """Whether this is all there is to say of the item, so that it may be new."""
        return len(self.values) == len(ITEM_SCHEMA.names) - 1

    def to_json(self) -> bytes:
        """The change as the log keeps it."""
        return orjson.dumps({**self.values, Item.ID: self.item_id})

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """What ``to_json`` wrote."""
        values = orjson.loads(text)
        return cls(values.pop(Item.ID), values)


class LoggedChange(NamedTuple):
    """A change, its place in the log, and when it was logged (microseconds since 1970, UTC)."""

    entry_id: str
    logged_at: int
    change: CatalogChange


class CatalogLog(Protocol):
    """The changes of the newest minute or so, oldest first. Methods raise LogUnavailableError."""

    async def append(self, changes: Sequence[CatalogChange]) -> None:
        """Log changes, all or none, in their order."""

    async def after(self, entry_id: str | None) -> list[LoggedChange]:
        """The changes after an entry; None for all that the log still has."""

    async def forget_before(self, moment: int) -> None:
        """Remove what was logged before a moment (microseconds)."""


def changed_rows(items: pa.Table, changes: Iterable[CatalogChange]) -> pa.Table:
    """The rows, of ITEM_SCHEMA, that changes make of items, in the order in which these are first named.

    A change that is not whole of an item that the catalog lacks is left out: a stock that is told of what is not
    sold must not put it on sale.
    """
    changes = list(changes)
    named = pa.array(dict.fromkeys(change.item_id for change in changes), pa.string())
    known = items.filter(pa.compute.is_in(items[Item.ID], value_set=named))
    rows = {row[Item.ID]: row for row in known.to_pylist()}
    for change in changes:
        if change.item_id in rows:
            rows[change.item_id] = {**rows[change.item_id], **change.values}
        elif change.whole:
            rows[change.item_id] = {Item.ID: change.item_id, **change.values}
    order = [item_id for item_id in named.to_pylist() if item_id in rows]
    return pa.Table.from_pylist([rows[item_id] for item_id in order], ITEM_SCHEMA)
