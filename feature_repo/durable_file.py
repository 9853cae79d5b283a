"""Files that are whole or absent, whatever is killed: written aside, forced to disk, then renamed."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.arrays import Bool


def to_parquet(table: pa.Table, group_rows: int | None = None) -> pa.Buffer:
    """Parquet bytes of a table; equal rows in equal order give equal bytes.

    group_rows: so many rows can be read without the others, a million if not given.
    """
    sink = pa.BufferOutputStream()
    # What repeats zstd finds by itself: with dictionaries before it, files are larger and take twice as long.
    pq.write_table(
        table.combine_chunks(), sink, compression="zstd", use_dictionary=False, row_group_size=group_rows
    )
    return sink.getvalue()


def write_synced(path: Path, content: pa.Buffer | bytes) -> None:
    """Write a file and wait until its content is on disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk: a rename alone may be lost with the power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: pa.Buffer | bytes, *, mode: int = 0o666) -> None:
    """Give ``path`` new content; a reader sees the old or the new, never a part. One writer at a time.

    Nobody whom ``mode`` leaves out, or the process's umask, can read it at any moment.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.tmp")
    staged.unlink(missing_ok=True)  # what a killed writer left has the mode that it was made with
    staged.touch(mode=mode)
    write_synced(staged, content)
    staged.replace(path)
    sync(path.parent)


def written(path: Path) -> tuple[int, int] | None:
    """When a file was written (ns), and which it is: the same until it is replaced; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino


def drop_rows(path: Path, columns: Sequence[str], unwanted: Callable[[pa.Table], Bool]) -> int:
    """Rewrite a Parquet file without the rows that ``unwanted`` finds by these columns; returns how many went.

    A file without such rows is not touched; the size of row groups stays.
    """
    file = pq.ParquetFile(path)
    dropped = unwanted(file.read(columns=list(columns)))
    if dropped.any():
        groups = range(file.metadata.num_row_groups)
        group_rows = max(file.metadata.row_group(group).num_rows for group in groups)
        replace_file(path, to_parquet(file.read().filter(pa.array(~dropped)), group_rows))
    return int(dropped.sum())
