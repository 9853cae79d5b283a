"""A shop's files read, mapped and judged: which of their rows Freshet takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.errors import InputError
from feature_repo.schema import (
    EVENT_CODES,
    EVENT_SCHEMA,
    ITEM_SCHEMA,
    ITEMLESS_TYPES,
    USER_SCHEMA,
    Event,
    Item,
    User,
)
from training.imports.derive_items import derive_items
from training.imports.field_map import EventsMap, FieldMap, TableMap, own_columns
from training.imports.map_rows import MappedTable, Notation, Verdicts, map_table
from training.imports.parse_text import as_mask
from training.imports.quality_report import TableCounts
from training.imports.tabular_file import is_csv, read_text_table


@dataclass(frozen=True)
class ShopFile:
    """A file and what the map made of it."""

    path: Path
    mapped: MappedTable
    used_columns: frozenset[str]

    def counts(self, imported: int, erased: int = 0) -> TableCounts:
        """Account of every row, given how many went in or name an erased shopper; the others are duplicates."""
        verdicts = self.mapped.verdicts
        return TableCounts(
            file=str(self.path),
            rows=self.mapped.text.num_rows,
            imported=imported,
            duplicates=int(verdicts.accepted.sum()) - imported - erased,
            erased=erased,
            rejected_by_reason=verdicts.counts(),
            ignored_columns=tuple(
                name for name in self.mapped.text.column_names if name not in self.used_columns
            ),
        )


def read_events(path: Path, fields: FieldMap, latest: int) -> ShopFile:
    """Events of a file; those after ``latest`` (microseconds) are rejected. Raises InputError."""
    text = read_text_table(path, delimiter=fields.delimiter, encoding=fields.encoding)
    table_map = fields.events or own_columns(EventsMap, text.column_names, EVENT_SCHEMA)
    filled = {*table_map.columns, *table_map.constants}
    for one_of in ((Event.TIMESTAMP,), (Event.TYPE,), (Event.USER, Event.VISITOR), (Event.ITEM,)):
        _require(path, text, filled, one_of)
    with _naming(path):
        mapped = map_table(text, table_map, EVENT_SCHEMA, section="events", notation=_notation(path, fields))
    _judge_events(mapped.rows, mapped.verdicts, latest)
    used = {*table_map.source_columns(), *(derived.column for derived in fields.items_from_events.values())}
    return ShopFile(path, mapped, frozenset(used))


def read_items(path: Path, fields: FieldMap) -> ShopFile:
    """Items of a catalog file. Raises InputError."""
    return _read_entities(path, fields, "items")


def read_users(path: Path, fields: FieldMap) -> ShopFile:
    """Users of a user file. Raises InputError."""
    return _read_entities(path, fields, "users")


def items_of_events(events: ShopFile, fields: FieldMap) -> pa.Table:
    """Items (ITEM_SCHEMA) as the map derives them from the event file; none when it does not. Raises InputError."""
    if not fields.items_from_events:
        return ITEM_SCHEMA.empty_table()
    with _naming(events.path):
        return derive_items(events.mapped, fields.items_from_events)


def _read_entities(path: Path, fields: FieldMap, section: Literal["items", "users"]) -> ShopFile:
    table_map, schema, key = {
        "items": (fields.items, ITEM_SCHEMA, Item.ID),
        "users": (fields.users, USER_SCHEMA, User.ID),
    }[section]
    text = read_text_table(path, delimiter=fields.delimiter, encoding=fields.encoding)
    table_map = table_map or own_columns(TableMap, text.column_names, schema)
    _require(path, text, {*table_map.columns, *table_map.constants}, (key,))
    with _naming(path):
        mapped = map_table(text, table_map, schema, section=section, notation=_notation(path, fields))
    mapped.verdicts.reject(as_mask(pc.is_null(mapped.rows[key])), f"missing {key}")
    return ShopFile(path, mapped, frozenset(table_map.source_columns()))


def _notation(path: Path, fields: FieldMap) -> Notation:
    """That of the map; Parquet has numbers, which come as text with a decimal point."""
    return Notation(fields.missing, fields.decimal if is_csv(path) else ".")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _require(path: Path, text: pa.Table, filled: set[str], one_of: tuple[str, ...]) -> None:
    if not filled.intersection(one_of):
        raise InputError(
            f"{path}: no column gives {' or '.join(one_of)}; the file has {', '.join(text.column_names)}: "
            "name the column in a map (--map FILE, see docs/import.md)"
        )


def _judge_events(rows: pa.Table, verdicts: Verdicts, latest: int) -> None:
    """Reject what no single cell shows."""
    kinds = rows[Event.TYPE]
    itemless = pc.is_in(kinds, value_set=pa.array(ITEMLESS_TYPES, pa.string()))
    unknown = pc.invert(pc.is_in(kinds, value_set=pa.array(EVENT_CODES, pa.string())))
    no_shopper = pc.and_(pc.is_null(rows[Event.USER]), pc.is_null(rows[Event.VISITOR]))
    for rejected, reason in (
        (pc.is_null(rows[Event.TIMESTAMP]), "missing timestamp"),
        (pc.greater(rows[Event.TIMESTAMP].cast(pa.int64()), latest), "future timestamp"),
        (no_shopper, "missing shopper (neither user_id nor visitor_id)"),
        (pc.is_null(kinds), "missing event_type"),
        (unknown, "unknown event_type"),
        (pc.and_(pc.is_null(rows[Event.ITEM]), pc.invert(itemless)), "missing item_id"),
    ):
        verdicts.reject(as_mask(rejected), reason)
