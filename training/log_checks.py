"""Is a new part of the log fit to be learned from? It is cleaned, held against the days before, and reported on.

A part that was stopped is left out of what models learn from, and of what later parts are held against, until
it is checked again and passes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.archive import Archive
from feature_repo.arrays import Bool, Int64
from feature_repo.catalog import read_items
from feature_repo.errors import QualityError
from feature_repo.schema import DAY, Event, EventType, Item
from feature_repo.settings import Settings
from training.cleaning import COLUMNS, describe, find_faults, mend
from training.log_report import Action, Finding, QualityReport, Verdict, example_of

SETTLED_DAYS: Final = 7
"""A shop without a catalog has met most of its items after so many days."""
COMMON_SHARE: Final = 0.05
"""An event type with a smaller share of the log may be missing for a while."""
NEARLY_ALWAYS: Final = 0.95
FEWEST_OF_A_TYPE: Final = 20
"""Shares of fewer events of a type say nothing."""


@dataclass(frozen=True)
class Earlier:
    """What the cleaned log before a window holds."""

    days: int  # of UTC, with an event
    events: int
    by_type: dict[str, int]
    priced_by_type: dict[str, int]  # events with a price
    item_ids: pa.Array
    shopper_ids: pa.Array  # users and visitors

    @classmethod
    def of(cls, events: pa.Table) -> "Earlier":
        """What is to be known of cleaned ``events``, a table with at least cleaning.COLUMNS."""
        shoppers = pa.chunked_array([*events[Event.USER].chunks, *events[Event.VISITOR].chunks], pa.string())
        return cls(
            days=len(np.unique(_times(events) // DAY)),
            events=events.num_rows,
            by_type=_counts(events[Event.TYPE]),
            priced_by_type=_counts(events.filter(pc.is_valid(events[Event.PRICE]))[Event.TYPE]),
            item_ids=pc.unique(events[Event.ITEM]).drop_null(),
            shopper_ids=pc.unique(shoppers).drop_null(),
        )


def check_day(settings: Settings, as_of: int, force: str | None = None) -> QualityReport:
    """``check_window`` of the 24 hours before a moment (microseconds since 1970)."""
    return check_window(settings, as_of - DAY, as_of, force)


def check_window(settings: Settings, start: int, end: int, force: str | None = None) -> QualityReport:
    """Clean and judge the archive's events from ``start`` to ``end`` (microseconds, end excluded).

    The report is also written to settings.quality_dir. A reason to ``force`` it lets a window pass that would
    be stopped.
    """
    archive = Archive(settings.archive_dir)
    archive.compact()
    items = read_items(settings.catalog_dir)
    from_ = start - int(settings.quality_history_days * DAY)
    before = without_stopped(archive.read(from_, start, COLUMNS), settings)
    window = archive.read(start, end, COLUMNS)
    # Together, so that a price is held against those of the days before.
    events = pa.concat_tables([before, window])
    faults = find_faults(events, items, settings)
    cleaned = mend(events, faults)
    is_new = _times(cleaned) >= start
    inside = {rule: rows[rows >= len(before)] - len(before) for rule, rows in faults.items()}
    report = judge(
        QualityReport(start, end, window.num_rows, int(is_new.sum()), tuple(describe(window, inside)), ()),
        cleaned.filter(is_new),
        items,
        Earlier.of(cleaned.filter(~is_new)),
        settings,
    )
    if force and not report.passed:
        report = replace(report, forced=force)
    report.write(settings.quality_dir)
    return report


def judge(
    report: QualityReport, cleaned: pa.Table, items: pa.Table, earlier: Earlier, settings: Settings
) -> QualityReport:
    """``report`` on the cleaning of a window, with what its cleaned events show beside the days before."""
    if not report.events:
        return report
    if report.events < settings.quality_min_events:
        reason = (
            f"whether the window is to be stopped: it has fewer than {settings.quality_min_events} events"
        )
        return replace(report, unchecked=(reason,))
    known = pc.unique(pa.chunked_array([earlier.item_ids, *items[Item.ID].chunks], pa.string()))
    found = list(_too_many_removed(report, settings))
    unchecked = []
    if items.num_rows or earlier.days >= SETTLED_DAYS:
        found += _unknown_items(cleaned, known, settings)
    else:
        unchecked.append(f"unknown items: there is no catalog, and less than {SETTLED_DAYS} earlier days")
    if len(known):
        found += _exchanged_ids(cleaned, known, earlier.shopper_ids, settings)
    if earlier.events:
        found += _missing_prices(cleaned, earlier, settings)
        found += _vanished_types(cleaned, earlier)
        found += _unusual_volume(report, earlier, settings)
    else:
        unchecked.append("missing prices, vanished event types, number of events: there are no earlier days")
    return replace(report, findings=(*report.findings, *found), unchecked=tuple(unchecked))


def require_passed(summary: Mapping[str, str | int]) -> None:
    """Raise QualityError, which says why and what to do next, when a report's summary says stopped."""
    if summary["verdict"] != Verdict.PASSED:
        raise QualityError(
            f"the log of {summary['window']} is {summary['text']}. Next: {summary['advice']}; then check it "
            f"again, or give a reason to force it (more in {summary['report']})"
        )


def without_stopped(events: pa.Table, settings: Settings) -> pa.Table:
    """``events`` without those of stopped windows; where windows overlap, the one that ends last decides."""
    times = _times(events)
    stopped = np.zeros(len(times), bool)
    reports = [QualityReport.read(path) for path in settings.quality_dir.glob("*.json")]
    for report in sorted(reports, key=lambda report: (report.end, report.start)):
        stopped[(times >= report.start) & (times < report.end)] = not report.passed
    return events.filter(~stopped) if stopped.any() else events


def _too_many_removed(report: QualityReport, settings: Settings) -> Iterator[Finding]:
    removed = report.events - report.kept
    share = removed / report.events
    if share > settings.quality_max_removed_share:
        yield Finding(
            "too many events removed",
            removed,
            share,
            Action.STOPS,
            ", ".join(f"{finding.rows:,} {finding.rule}" for finding in report.findings),
            "mend what sends these events, and take them out of the archive",
        )


def _unknown_items(cleaned: pa.Table, known: pa.Array, settings: Settings) -> Iterator[Finding]:
    named = cleaned.filter(pc.is_valid(cleaned[Event.ITEM]))
    unknown = ~_is_in(named[Event.ITEM], known)
    yield from _stop_above(
        settings.quality_max_unknown_share,
        named,
        unknown,
        "item that neither the catalog nor the earlier log knows",
        "look for exchanged columns, or import the catalog that these items are from",
    )


def _exchanged_ids(
    cleaned: pa.Table, known: pa.Array, shopper_ids: pa.Array, settings: Settings
) -> Iterator[Finding]:
    """An unknown item and, as user or visitor, an id that is a known item and no known shopper."""
    named = cleaned.filter(pc.is_valid(cleaned[Event.ITEM]))
    exchanged = np.zeros(len(named), bool)
    for column in (Event.USER, Event.VISITOR):
        exchanged |= _is_in(named[column], known) & ~_is_in(named[column], shopper_ids)
    yield from _stop_above(
        settings.quality_max_exchanged_share,
        named,
        exchanged & ~_is_in(named[Event.ITEM], known),
        "item in place of the shopper",
        "exchange item_id with user_id or visitor_id where the events are made",
    )


def _missing_prices(cleaned: pa.Table, earlier: Earlier, settings: Settings) -> Iterator[Finding]:
    for kind, count in earlier.by_type.items():
        now = cleaned.filter(pc.equal(cleaned[Event.TYPE], kind))
        always = earlier.priced_by_type.get(kind, 0) >= NEARLY_ALWAYS * count
        if always and min(count, len(now)) >= FEWEST_OF_A_TYPE:
            yield from _stop_above(
                settings.quality_max_priceless_share,
                now,
                pc.is_null(now[Event.PRICE]).to_numpy(),
                f"{kind} without a usable price",
                "send prices again, in the unit they had",
            )


def _stop_above(limit: float, events: pa.Table, wrong: Bool, rule: str, advice: str) -> Iterator[Finding]:
    """A finding that stops when more than the share ``limit`` of ``events`` is wrong."""
    rows = int(wrong.sum())
    if rows > limit * len(events):
        yield Finding(rule, rows, rows / len(events), Action.STOPS, example_of(events.filter(wrong)), advice)


def _vanished_types(cleaned: pa.Table, earlier: Earlier) -> Iterator[Finding]:
    present = _counts(cleaned[Event.TYPE])
    for kind, count in earlier.by_type.items():
        share = count / earlier.events
        if share >= COMMON_SHARE and kind not in present:
            yield Finding(
                f"no {EventType(kind).value}",
                0,
                0.0,
                Action.WARNING,
                f"{share:.0%} of the events before",
                "look whether the shop still sends them",
            )


def _unusual_volume(report: QualityReport, earlier: Earlier, settings: Settings) -> Iterator[Finding]:
    days = (report.end - report.start) / DAY
    daily, usual = report.kept / days, earlier.events / earlier.days
    factor = settings.quality_volume_factor
    if days >= 1 and not usual / factor <= daily <= usual * factor:  # less than a day is too much up and down
        yield Finding(
            "unusual number of events",
            report.kept,
            daily / usual,
            Action.WARNING,
            f"{daily:,.0f} a day, before {usual:,.0f}",
            "look whether all of the shop sends its events, and once",
        )


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}


def _is_in(column: pa.ChunkedArray, ids: pa.Array) -> Bool:
    """bool[rows]; False for missing values."""
    found: Bool = pc.and_(pc.is_in(column, value_set=ids), pc.is_valid(column)).to_numpy()
    return found


def _times(events: pa.Table) -> Int64:
    times: Int64 = events[Event.TIMESTAMP].cast(pa.int64()).to_numpy()
    return times
