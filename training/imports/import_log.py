"""``freshet import``: a shop's files become archive and catalog. All are read before anything is written."""

import hashlib
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.archive import Archive
from feature_repo.catalog import change_items, upsert_items, upsert_users
from feature_repo.distinct_events import distinct
from feature_repo.durable_file import replace_file, to_parquet
from feature_repo.errors import InputError
from feature_repo.schema import EVENT_SCHEMA, ITEM_SCHEMA, SECOND, USER_SCHEMA, Event, Item, User
from feature_repo.settings import Settings
from feature_repo.tombstones import Tombstones
from training.imports.event_ids import row_ids
from training.imports.field_map import FieldMap, load_field_map
from training.imports.map_rows import ROW_NUMBER
from training.imports.parse_text import FIRST_PLAUSIBLE, Mask
from training.imports.quality_report import QualityReport, iso
from training.imports.shop_files import ShopFile, items_of_events, read_events, read_items, read_users


def import_log(  # noqa: PLR0913  one argument for each option of the command
    settings: Settings,
    events: Path | None = None,
    *,
    items: Path | None = None,
    users: Path | None = None,
    field_map: Path | None = None,
    shift_to_now: bool = False,
) -> QualityReport:
    """Import CSV or Parquet files of events, items and users, at least one; doing it again changes nothing.

    ``shift_to_now`` adds one offset to every event's time, so that a log which has ended ends now. Raises
    InputError, before anything is written, when a file or the map cannot be used; and after the report and
    the rejected rows are written, when a file has no usable row.
    """
    given = [path for path in (events, items, users) if path is not None]
    if not given:
        raise InputError("nothing to import: give a file with --events, --items or --users")
    fields = FieldMap() if field_map is None else load_field_map(field_map)
    now = time.time_ns() // 1000
    event_file = (
        read_events(events, fields, latest=now + int(settings.event_max_ahead_seconds * SECOND))
        if events
        else None
    )
    item_file = read_items(items, fields) if items else None
    user_file = read_users(users, fields) if users else None
    files = {
        name: file
        for name, file in (("rejects", event_file), ("item_rejects", item_file), ("user_rejects", user_file))
        if file is not None
    }
    derived_items = items_of_events(event_file, fields) if event_file else ITEM_SCHEMA.empty_table()

    archive = Archive(settings.archive_dir)
    found = _with_event_ids(event_file.mapped.accepted()) if event_file else EVENT_SCHEMA.empty_table()
    accepted = archive.tombstones.without_erased(found)  # before a shift makes the old look new
    first, last = _first_and_last(accepted)
    offset = now - last if shift_to_now and last is not None and last < now else 0
    imported = _add_to(archive, _moved(accepted, offset)) if event_file else 0

    # A catalog file says more than what the events tell, so it comes last.
    if derived_items.num_rows:
        change_items(settings.catalog_dir, partial(_with_known_columns, derived_items))
    if item_file:
        upsert_items(settings.catalog_dir, item_file.mapped.accepted())
    users_found = user_file.mapped.accepted() if user_file else USER_SCHEMA.empty_table()
    users_kept = users_found.filter(pa.array(~_of_erased(users_found, archive.tombstones)))
    if users_kept.num_rows:
        upsert_users(settings.catalog_dir, users_kept)

    report = QualityReport(
        events=event_file.counts(imported, len(found) - len(accepted)) if event_file else None,
        items=item_file.counts(_distinct_values(item_file.mapped.accepted()[Item.ID])) if item_file else None,
        users=user_file.counts(_distinct_values(users_kept[User.ID]), len(users_found) - len(users_kept))
        if user_file
        else None,
        items_from_events=derived_items.num_rows,
        first_event=first,
        last_event=last,
        shifted_by=offset,
        shoppers=_distinct_values(_shoppers(accepted)),
        distinct_items=_distinct_values(accepted[Event.ITEM]),
        event_types=_counts(accepted[Event.TYPE]),
        warnings=(
            *(_too_early(event_file) if event_file else ()),
            *(hint for file in files.values() for hint in file.mapped.hints),
        ),
        folder=settings.imports_dir / f"{given[0].stem}-{_content_hash(given[0])}",
    )
    _write_report(report, files, archive.tombstones)
    _require_usable_rows(report, files)
    return report


def _with_event_ids(events: pa.Table) -> pa.Table:
    """Give an id to the events that came without. Before any shift: the id is to outlast it."""
    given = events[Event.ID]
    made = row_ids(events.filter(pc.is_null(given)))
    ids = pc.replace_with_mask(given.combine_chunks(), pc.is_null(given).combine_chunks(), made)
    return events.set_column(events.schema.get_field_index(Event.ID), Event.ID, ids)


def _moved(events: pa.Table, offset: int) -> pa.Table:
    """Events of EVENT_SCHEMA, ``offset`` microseconds later; they count as having arrived when they happened."""
    times = pc.add(events[Event.TIMESTAMP].cast(pa.int64()), offset).cast(
        EVENT_SCHEMA.field(Event.TIMESTAMP).type
    )
    for name in (Event.TIMESTAMP, Event.ARRIVAL):
        events = events.set_column(events.schema.get_field_index(name), name, times)
    return events.cast(EVENT_SCHEMA)


def _add_to(archive: Archive, events: pa.Table) -> int:
    """Append the events that the archive lacks; how many they are."""
    events = distinct(events)
    known = pc.is_in(events[Event.ID], value_set=archive.event_ids().combine_chunks())
    fresh = events.filter(pc.invert(known))
    archive.append(fresh)
    archive.compact()
    return int(fresh.num_rows)


def _first_and_last(events: pa.Table) -> tuple[int | None, int | None]:
    range_ = pc.min_max(events[Event.TIMESTAMP].cast(pa.int64())).as_py()
    return range_["min"], range_["max"]


def _too_early(events: ShopFile) -> list[str]:
    """A warning when the first accepted event is older than it can well be."""
    times = events.mapped.rows[Event.TIMESTAMP].cast(pa.int64())
    accepted = pc.if_else(pa.array(events.mapped.verdicts.accepted), times, None)
    first = pc.min(accepted).as_py()
    if first is None or first >= FIRST_PLAUSIBLE:
        return []
    row = pc.index(accepted, first).as_py() + 1
    return [f"events: row {row:,} is of {iso(first)}: check units.timestamp in the map, unless that is so"]


def _shoppers(events: pa.Table) -> pa.ChunkedArray:
    return pc.coalesce(
        pc.binary_join_element_wise("u:", events[Event.USER], ""),
        pc.binary_join_element_wise("v:", events[Event.VISITOR], ""),
    )


def _with_known_columns(derived: pa.Table, items: pa.Table) -> pa.Table:
    """Items as events tell of them; what these do not tell stays as the catalog has it."""
    known = items.take(pc.index_in(derived[Item.ID], value_set=items[Item.ID].combine_chunks()))
    return pa.table(
        [pc.coalesce(derived[name], known[name]) for name in ITEM_SCHEMA.names], schema=ITEM_SCHEMA
    )


def _distinct_values(column: pa.ChunkedArray) -> int:
    count: int = pc.count_distinct(column).as_py()
    return count


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Values and how often they stand, most frequent first."""
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def _content_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _of_erased(rows: pa.Table, tombstones: Tombstones) -> Mask:
    """Mask of the rows that name a shopper who was erased at their time, or since, where they have one."""
    nobody = pa.chunked_array([pa.nulls(rows.num_rows, pa.string())])
    users, visitors = (
        rows[name] if name in rows.column_names else nobody for name in (Event.USER, Event.VISITOR)
    )
    times = np.zeros(rows.num_rows, np.int64)
    if Event.TIMESTAMP in rows.column_names:
        times = rows[Event.TIMESTAMP].cast(pa.int64()).fill_null(0).to_numpy()
    return tombstones.covering(users, visitors, times)


def _write_report(report: QualityReport, files: dict[str, ShopFile], tombstones: Tombstones) -> None:
    for name, file in files.items():
        rejects = file.mapped.verdicts.rejects(file.mapped.text)
        erased = _of_erased(file.mapped.rows, tombstones)[rejects[ROW_NUMBER].to_numpy() - 1]
        replace_file(report.folder / f"{name}.parquet", to_parquet(rejects.filter(pa.array(~erased))))
    replace_file(report.folder / "report.json", report.to_json())


def _require_usable_rows(report: QualityReport, files: dict[str, ShopFile]) -> None:
    for name, file in files.items():
        verdicts = file.mapped.verdicts
        if not verdicts.accepted.any():
            reason = next(iter(verdicts.counts()))
            raise InputError(
                f"{file.path}: none of its {file.mapped.text.num_rows:,} rows can be used, most often: {reason}; "
                f"they are in {report.folder / name}.parquet: correct the map or the export"
            )
