"""What was served on days that are over lies in few files: servers leave two every few seconds.

A merged file is named ``<first>-<last>-merged-<n>.parquet``. It holds whole slates in the order of their moments,
which is that of their ids, so that the statistics of its row groups tell where a request is.
"""

import logging
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.durable_file import replace_file, to_parquet
from feature_repo.errors import InputError
from feature_repo.settings import Settings
from serving.served.date_folder import day_of, folders_before
from serving.served.folder_swap import mend, staged, swap
from serving.served.served_log import ITEMS, REQUESTS, Served
from training.locks import AT_ONCE, served_lock

logger = logging.getLogger(__name__)

_MERGED: Final = "merged"
_ORDER: Final = [(Served.AS_OF, "ascending"), (Served.REQUEST, "ascending")]


class _Rows(NamedTuple):
    """About how many rows lie together: in a file, which bounds the memory of its readers, and in a group."""

    file: int
    group: int


BETWEEN_SECONDS: Final = 0.2
"""Pause between two folders: longer than others who wait for the lock take to look again."""

_ROWS: Final = {REQUESTS: _Rows(5_000, 250), ITEMS: _Rows(40_000, 5_000)}


def merge_served(settings: Settings) -> int:
    """Merge the files of each day before yesterday, of both tables; returns how many folders of days it was.

    What cannot be merged now stays as it is, for the next call.
    """
    merged, given_up = 0, set[Path]()
    while (done := merge_next(settings, given_up)) is not None:
        merged += done
        time.sleep(BETWEEN_SECONDS)
    return merged


def merge_next(
    settings: Settings, given_up: set[Path], is_ending: Callable[[], bool] = lambda: False
) -> bool | None:
    """Merge the next folder of a day that is over; returns whether it was done here, and now, None without any.

    What cannot be merged is ``given_up`` from then on. Once the process ``is_ending``, a merge stops undone.
    """
    folder = next((folder for folder in unmerged(settings) if folder not in given_up), None)
    if folder is None:
        return None
    try:
        return merge_folder(settings, folder, is_ending)
    except (OSError, pa.ArrowException) as error:  # a full disk, a damaged file, or the end of the day's time
        logger.warning("%s is not merged: %s", folder, error)
        given_up.add(folder)
        return False


def unmerged(settings: Settings) -> list[Path]:
    """Folders of days that are over, and whose files are not merged; none while others are at it."""
    yesterday = day_of(time.time_ns() // 1000) - timedelta(days=1)
    with suppress(InputError), served_lock(settings, AT_ONCE):
        over = chain.from_iterable(folders_before(settings.served_dir / table, yesterday) for table in _ROWS)
        return [folder for folder in sorted(over) if not _is_merged(_files(folder))]
    return []


def merge_folder(settings: Settings, folder: Path, is_ending: Callable[[], bool] = lambda: False) -> bool:
    """Merge the files of a day's folder; returns whether it was done here, and now.

    Raises OSError or ArrowException where it cannot be; all is then as before.
    """
    with suppress(InputError), served_lock(settings, AT_ONCE):
        files = _files(folder)
        if _is_merged(files):  # by another, meanwhile
            return False
        try:
            _require_room(folder, files)
            _write_merged(files, staged(folder), _ROWS[folder.parent.name], is_ending)
            swap(folder, {path.name for path in files})
        except (OSError, pa.ArrowException):
            mend(folder.parent)
            raise
        return True
    return False


def _require_room(folder: Path, files: Sequence[Path]) -> None:
    """Raise OSError where the disk would be nearly full before the old files go: servers write to it, too."""
    needed = 2 * sum(path.stat().st_size for path in files)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"{needed / 2**20:.0f} MiB of the disk must be free, not {free / 2**20:.0f}")


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!.]*.parquet"))


def _is_merged(files: Sequence[Path]) -> bool:
    return all(f"-{_MERGED}-" in path.name for path in files)


def _write_merged(files: Sequence[Path], folder: Path, rows: _Rows, is_ending: Callable[[], bool]) -> None:
    folder.mkdir()
    for number, batch in enumerate(_batches(files, rows.file)):
        if is_ending():
            raise InterruptedError("the process ends")
        merged = batch.combine_chunks().sort_by(_ORDER)
        bounds = pc.min_max(merged[Served.AS_OF].cast(pa.int64())).as_py()
        name = f"{bounds['min']}-{bounds['max']}-{_MERGED}-{number}.parquet"
        replace_file(folder / name, to_parquet(merged, rows.group))


def _batches(files: Sequence[Path], most: int) -> Iterator[pa.Table]:
    """Tables of whole files that have one schema and metadata; each ends with the file that fills it."""
    waiting: dict[bytes, list[pa.Table]] = defaultdict(list)
    for path in files:
        table = pq.ParquetFile(path).read()
        alike = waiting[table.schema.serialize().to_pybytes()]
        alike.append(table)
        if sum(map(len, alike)) >= most:
            yield pa.concat_tables(alike)
            alike.clear()
    yield from (pa.concat_tables(alike) for alike in waiting.values() if sum(map(len, alike)))
