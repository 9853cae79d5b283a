"""A table of text becomes rows of a schema, and every row that cannot gets a reason."""

from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.errors import InputError
from feature_repo.schema import CATEGORY_SEPARATOR, User
from training.imports.field_map import Condition, TableMap
from training.imports.parse_text import (
    Mask,
    as_mask,
    holds_numbers,
    looks_like_decimal_commas,
    looks_numeric,
    parse,
    parse_number,
    with_decimal_point,
)

ROW_NUMBER: Final = "freshet_row"
"""Column of the rejected rows: the row's number in its file, from 1."""
_ACCEPTED: Final = -1
_PROPERTIES: Final = User.PROPERTIES


class Verdicts:
    """Which rows of a file are rejected, and why; the first reason given to a row stays."""

    def __init__(self, rows: int) -> None:
        self._reasons: list[str] = []
        self._codes = np.full(rows, _ACCEPTED, np.int32)

    def reject(self, rows: Mask, reason: str) -> None:
        """Reject the rows of a mask that are still accepted."""
        if reason not in self._reasons:
            self._reasons.append(reason)
        self._codes[rows & self.accepted] = self._reasons.index(reason)

    @property
    def accepted(self) -> Mask:
        """Mask of the rows without a reason against them."""
        return self._codes == _ACCEPTED

    def counts(self) -> dict[str, int]:
        """Rejected rows by reason, most frequent first."""
        counts = np.bincount(self._codes[~self.accepted], minlength=len(self._reasons))
        order = np.argsort(-counts, kind="stable")
        return {self._reasons[code]: int(counts[code]) for code in order if counts[code]}

    def rejects(self, text: pa.Table) -> pa.Table:
        """Rejected rows as they came, with their number in the file (the first is 1) and the reason."""
        numbers = np.flatnonzero(~self.accepted)
        reasons = pa.array([self._reasons[code] for code in self._codes[numbers]], pa.string())
        rows = text.take(pa.array(numbers))
        return rows.append_column(ROW_NUMBER, pa.array(numbers + 1)).append_column("freshet_reason", reasons)


@dataclass(frozen=True)
class Notation:
    """How a file writes its cells."""

    missing: list[str]  # texts that stand for no value, beside the empty one
    decimal: str


@dataclass(frozen=True)
class MappedTable:
    """What a map made of a file."""

    text: pa.Table  # the file, all columns as text
    rows: pa.Table  # a row of the schema for each row of the file; rejected ones hold what could be read
    verdicts: Verdicts
    notation: Notation
    hints: tuple[str, ...]  # what in the map may be wrong, to judge by the cells

    def accepted(self) -> pa.Table:
        """Rows of the schema that no verdict speaks against."""
        return self.rows.filter(self.verdicts.accepted)


def map_table(
    text: pa.Table, table_map: TableMap, schema: pa.Schema, *, section: str, notation: Notation
) -> MappedTable:
    """Apply a section of the map to a file.

    Raises InputError when the file lacks a column that the map names, or holds bare numbers as times and the
    map gives no unit.
    """
    used = table_map.source_columns()
    for column, key in used.items():
        if column not in text.column_names:
            raise InputError(
                f"no column {column!r}, which {section}.{key} names; the file has {', '.join(text.column_names)}: "
                "correct the map, or export the column"
            )
    cells = {name: _cleaned(text[name], notation.missing) for name in used}
    verdicts = Verdicts(text.num_rows)
    for reject in table_map.reject:
        verdicts.reject(_where(cells, reject.when, notation.decimal), reject.reason)
    numeric = frozenset(field.name for field in schema if holds_numbers(field))
    mapped = _rename_and_change(cells, table_map, text.num_rows, numeric, notation.decimal)
    columns, hints = [], []
    for field in schema:
        if field.name not in mapped:
            columns.append(pa.nulls(text.num_rows, field.type))
            continue
        unit = table_map.units.get(field.name)
        if pa.types.is_timestamp(field.type) and unit is None and looks_numeric(mapped[field.name]):
            raise InputError(
                f"the {field.name} column holds bare numbers: declare in the map what they count, "
                f"{section}.units.{field.name}: s, ms or us"
            )
        values, unusable, reason = parse(field, mapped[field.name], unit)
        verdicts.reject(unusable, reason)
        if field.name in numeric and looks_like_decimal_commas(mapped[field.name].filter(unusable)):
            hints.append(
                f"{section}: {field.name} has cells such as 12,50: if the comma is their decimal mark, put "
                'decimal: "," into the map of a CSV file, or export numbers as Parquet'
            )
        columns.append(values)
    nullable = pa.schema([field.with_nullable(nullable=True) for field in schema])
    return MappedTable(text, pa.table(columns, schema=nullable), verdicts, notation, tuple(hints))


def _cleaned(column: pa.ChunkedArray, missing: list[str]) -> pa.Array:
    """Cells without blanks around them; empty ones are missing."""
    trimmed = pc.utf8_trim_whitespace(column.combine_chunks())
    absent = pc.is_in(trimmed, value_set=pa.array(["", *missing], pa.string()))
    return pc.if_else(absent, None, trimmed)


def _rename_and_change(
    cells: dict[str, pa.Array], table_map: TableMap, rows: int, numeric: frozenset[str], decimal: str
) -> dict[str, pa.Array]:
    """Text of each of Freshet's columns that the map fills; the ``numeric`` ones with a decimal point."""
    mapped = {name: _compose(cells, source) for name, source in table_map.columns.items()}
    for name in numeric.intersection(mapped):
        mapped[name] = with_decimal_point(mapped[name], decimal)
    mapped |= {name: pa.repeat(value, rows) for name, value in table_map.constants.items()}
    for name, translation in table_map.translations().items():
        mapped[name] = _translate(mapped[name], translation)
    for name in table_map.upper:
        mapped[name] = pc.utf8_upper(mapped[name])
    if table_map.properties:
        mapped[_PROPERTIES] = _as_json(cells, table_map.properties)
    for change in table_map.change:
        affected = pa.array(_where(cells, change.when, decimal))
        for name, value in change.set_.items():
            mapped[name] = pc.if_else(affected, value, mapped.get(name, pa.nulls(rows, pa.string())))
        for name in change.absolute:
            positive = pc.replace_substring_regex(mapped[name], "^-", "")
            mapped[name] = pc.if_else(affected, positive, mapped[name])
    return mapped


def _translate(text: pa.Array, translation: dict[str, str]) -> pa.Array:
    """Replace the values that the translation knows; the others stay."""
    found = pc.index_in(text, value_set=pa.array(translation, pa.string()))
    return pc.coalesce(pa.array(translation.values(), pa.string()).take(found), text)


def _compose(cells: dict[str, pa.Array], source: str | list[str]) -> pa.Array:
    """A column, or a path whose levels are columns; missing levels are left out."""
    if isinstance(source, str):
        return cells[source]
    return _join_present([cells[level] for level in source], CATEGORY_SEPARATOR)


def _as_json(cells: dict[str, pa.Array], columns: list[str]) -> pa.Array:
    """JSON objects of the given columns, as text; null where all are missing."""
    members = []
    for name in columns:
        encoded = cells[name].dictionary_encode()
        texts = [f"{_dump(name)}:{_dump(value)}" for value in encoded.dictionary.to_pylist()]
        members.append(pa.array(texts, pa.string()).take(encoded.indices))
    return pc.binary_join_element_wise("{", _join_present(members, ","), "}", "")


def _join_present(parts: list[pa.Array], separator: str) -> pa.Array:
    """Texts of each row with the separator between them; missing ones are left out, and all missing is missing."""
    # Arrow drops a row of which every part is missing, so an empty text leads, and is cut off again.
    lead = pa.repeat("", len(parts[0]))
    joined = pc.binary_join_element_wise(lead, *parts, separator, null_handling="skip")
    texts = pc.utf8_slice_codeunits(joined, start=len(separator))
    return pc.if_else(pc.equal(texts, ""), None, texts)


def _dump(value: str) -> str:
    return orjson.dumps(value).decode()


def _where(cells: dict[str, pa.Array], conditions: list[Condition], decimal: str) -> Mask:
    """Rows for which every condition holds; one on a missing cell does not, but for ``missing``."""
    return reduce(
        np.logical_and, (_holds(cells[condition.column], condition, decimal) for condition in conditions)
    )


def _holds(cell: pa.Array, condition: Condition, decimal: str) -> Mask:
    if condition.equals is not None:
        flags = pc.equal(cell, condition.equals)
    elif condition.in_ is not None:
        flags = pc.is_in(cell, value_set=pa.array(condition.in_, pa.string()))
    elif condition.matches is not None:
        flags = pc.match_substring_regex(cell, condition.matches)
    elif condition.not_matches is not None:
        flags = pc.invert(pc.match_substring_regex(cell, condition.not_matches))
    elif condition.missing is not None:
        flags = pc.equal(pc.is_null(cell), condition.missing)
    else:
        numbers, _ = parse_number(with_decimal_point(cell, decimal))
        if condition.below is not None:
            flags = pc.less(numbers, condition.below)
        else:
            flags = pc.greater(numbers, condition.above)
    return as_mask(flags)
