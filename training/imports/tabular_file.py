"""CSV and Parquet files as tables of text: one way in for whatever a shop exports."""

import codecs
import csv
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from feature_repo.errors import InputError

_EXACT_FLOAT: Final = 2.0**53
"""Below this every whole number is a float64 of its own."""


def read_text_table(path: Path, *, delimiter: str, encoding: str) -> pa.Table:
    """Table of string columns named as in the file; what is empty is null.

    Whole numbers lose a trailing ``.0`` (nullable integers are often stored as floats), native timestamps
    become ISO text in UTC, lists and structs JSON. Raises InputError when the file is missing, empty,
    damaged or of another kind.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file: check the path")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty: export it again")
    if is_csv(path):
        table = _read_csv(path, delimiter, encoding)
    elif path.suffix.lower() in {".parquet", ".pq"}:
        table = _read_parquet(path)
    else:
        raise InputError(f"{path} is neither .csv nor .parquet: export it as one of the two")
    if len(set(table.column_names)) < len(table.column_names):
        twice = next(name for name in table.column_names if table.column_names.count(name) > 1)
        raise InputError(f"{path} has two columns {twice!r}: rename one")
    if not table.num_rows:
        raise InputError(f"{path} has a header but no rows: export it again")
    return table.combine_chunks()


def is_csv(path: Path) -> bool:
    """Whether the file's name ends in .csv."""
    return path.suffix.lower() == ".csv"


def _read_csv(path: Path, delimiter: str, encoding: str) -> pa.Table:
    try:
        codec = codecs.lookup(encoding).name
        with path.open(encoding="utf-8-sig" if codec == "utf-8" else codec, newline="") as file:
            header = next(csv.reader(file, delimiter=delimiter))
        if len(header) == 1 and any(mark in header[0] for mark in ",;\t|"):
            raise InputError(
                f"{path} has one column named {header[0]!r}: name its delimiter in a map (delimiter: ';')"
            )
        return pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(encoding=codec, use_threads=False),  # so that errors name the row
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
    except (UnicodeError, LookupError, pa.ArrowInvalid, StopIteration, csv.Error) as error:
        reason = str(error).partition("\n")[0]
        if isinstance(error, (UnicodeError, LookupError)) or "invalid UTF8" in reason:
            cure = f"it is not {encoding} text: name its encoding in a map (encoding: latin-1)"
        else:
            cure = "mend that row, or export the file again"
        raise InputError(f"{path} cannot be read as CSV ({reason}): {cure}") from error


def _read_parquet(path: Path) -> pa.Table:
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is not a whole Parquet file ({reason}): copy or export it again") from error
    columns = {}
    for name in table.column_names:
        try:
            columns[name] = _as_text(table[name])
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, orjson.JSONEncodeError) as error:
            raise InputError(
                f"{path}: column {name!r} of type {table[name].type} cannot be read as text: "
                "export it as text, numbers or timestamps"
            ) from error
    return pa.table(columns)


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _as_text(column.cast(kind.value_type))
    if pa.types.is_floating(kind):
        return _float_as_text(column.cast(pa.float64()))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return (
            column.cast(pa.timestamp("us", kind.tz if pa.types.is_timestamp(kind) else None), safe=False)
            .cast(pa.timestamp("us"))
            .cast(pa.string())
        )
    if pa.types.is_nested(kind):
        return pa.chunked_array([[_json(value) for value in column.to_pylist()]], pa.string())
    text = column.cast(pa.string())
    return pc.if_else(pc.equal(text, ""), None, text)


def _float_as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), _EXACT_FLOAT))
    integers = pc.if_else(whole, column, None).cast(pa.int64()).cast(pa.string())
    return pc.coalesce(integers, column.cast(pa.string()))


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
