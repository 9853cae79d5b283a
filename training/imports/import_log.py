"""``freshet import``: a shop's files become archive and catalog. All are read before anything is written."""

import hashlib
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.archive import Archive
from feature_repo.catalog import upsert_items, upsert_users
from feature_repo.distinct_events import distinct
from feature_repo.durable_file import replace_file, to_parquet
from feature_repo.schema import EVENT_SCHEMA, SECOND, Event, Item, User
from feature_repo.settings import Settings
from training.imports.event_ids import row_ids
from training.imports.field_map import FieldMap, load_field_map
from training.imports.quality_report import QualityReport
from training.imports.shop_files import ShopFile, items_of_events, read_events, read_items, read_users


def import_log(  # noqa: PLR0913  one argument for each option of the command
    settings: Settings,
    events: Path,
    *,
    items: Path | None = None,
    users: Path | None = None,
    field_map: Path | None = None,
    shift_to_now: bool = False,
) -> QualityReport:
    """Import a CSV or Parquet file of events, and of items and users if given; doing it again changes nothing.

    ``shift_to_now`` adds one offset to every event's time, so that a log which has ended ends now. Raises
    InputError, before anything is written, when a file or the map cannot be used.
    """
    fields = FieldMap() if field_map is None else load_field_map(field_map)
    now = time.time_ns() // 1000
    event_file = read_events(events, fields, latest=now + int(settings.event_max_ahead_seconds * SECOND))
    item_file = read_items(items, fields) if items else None
    user_file = read_users(users, fields) if users else None
    derived_items = items_of_events(event_file, fields)

    accepted = _with_event_ids(event_file.mapped.accepted())
    first, last = _first_and_last(accepted)
    offset = now - last if shift_to_now and last is not None and last < now else 0
    archive = Archive(settings.archive_dir)
    fresh = _unknown_to(archive, distinct(_moved(accepted, offset)))
    archive.append(fresh)
    archive.compact()

    # A catalog file says more than what the events tell, so it comes last.
    if derived_items.num_rows:
        upsert_items(settings.catalog_dir, derived_items)
    if item_file:
        upsert_items(settings.catalog_dir, item_file.mapped.accepted())
    if user_file:
        upsert_users(settings.catalog_dir, user_file.mapped.accepted())

    report = QualityReport(
        events=event_file.counts(fresh.num_rows),
        items=item_file.counts(_distinct_values(item_file.mapped.accepted()[Item.ID])) if item_file else None,
        users=user_file.counts(_distinct_values(user_file.mapped.accepted()[User.ID])) if user_file else None,
        items_from_events=derived_items.num_rows,
        first_event=first,
        last_event=last,
        shifted_by=offset,
        shoppers=_distinct_values(_shoppers(accepted)),
        distinct_items=_distinct_values(accepted[Event.ITEM]),
        event_types=_counts(accepted[Event.TYPE]),
        folder=settings.imports_dir / f"{events.stem}-{_content_hash(events)}",
    )
    _write_report(report, {"rejects": event_file, "item_rejects": item_file, "user_rejects": user_file})
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


def _unknown_to(archive: Archive, events: pa.Table) -> pa.Table:
    return events.filter(
        pc.invert(pc.is_in(events[Event.ID], value_set=archive.event_ids().combine_chunks()))
    )


def _first_and_last(events: pa.Table) -> tuple[int | None, int | None]:
    range_ = pc.min_max(events[Event.TIMESTAMP].cast(pa.int64())).as_py()
    return range_["min"], range_["max"]


def _shoppers(events: pa.Table) -> pa.ChunkedArray:
    return pc.coalesce(
        pc.binary_join_element_wise("u:", events[Event.USER], ""),
        pc.binary_join_element_wise("v:", events[Event.VISITOR], ""),
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


def _write_report(report: QualityReport, files: dict[str, ShopFile | None]) -> None:
    for name, file in files.items():
        if file is not None:
            rejects = file.mapped.verdicts.rejects(file.mapped.text)
            replace_file(report.folder / f"{name}.parquet", to_parquet(rejects))
    replace_file(report.folder / "report.json", report.to_json())
