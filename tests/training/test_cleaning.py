"""A broken log is cleaned or stopped as docs/quality.md says, and the report counts what was planted."""

import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from feature_repo.archive import Archive
from feature_repo.catalog import read_items, upsert_items
from feature_repo.errors import InputError, QualityError
from feature_repo.events import LoggedEvent, to_table
from feature_repo.schema import DAY, EVENT_SCHEMA, HOUR, ITEM_SCHEMA, MINUTE, Event, EventType, Item
from feature_repo.settings import Settings
from tests.training.tiny_log import NOON
from training.cleaning import COLUMNS, ORDER_TYPES, Rule, clean
from training.dataset import read_inputs, read_shop
from training.imports.import_log import import_log
from training.log_checks import check_day, check_window, require_passed
from training.log_report import Action, Finding, QualityReport
from training.simulation.simulate import END

STOP = int(END.timestamp()) * 1_000_000
"""End of the simulated log."""
START = STOP - 7 * DAY
"""The window under test is its last week."""
NO_ITEMS = ITEM_SCHEMA.empty_table()
STRICT = Settings(redis_url=None, quality_bot_interactions=3)

Spoil = Callable[[pd.DataFrame], pd.DataFrame]


# --- single rules, on a few events


def event(number: int, **columns: Any) -> LoggedEvent:
    """A view by ann of i1 at noon, but for ``columns``."""
    usual: dict[str, Any] = {
        Event.TYPE: "view",
        Event.USER: "ann",
        Event.ITEM: "i1",
        Event.TIMESTAMP: NOON,
        Event.ARRIVAL: NOON,
    }
    return LoggedEvent(event_id=f"e{number:04}", **(usual | columns))


def cleaned(
    events: list[LoggedEvent], items: pa.Table = NO_ITEMS, settings: Settings = STRICT
) -> tuple[pa.Table, dict[str, int]]:
    """The table, and events by rule."""
    table, findings = clean(to_table(events), items, settings)
    return table, {finding.rule: finding.rows for finding in findings}


def ids(table: pa.Table) -> list[str]:
    return table[Event.ID].to_pylist()


def catalog(**prices: float) -> pa.Table:
    rows = [{Item.ID: item, Item.PRICE: price} for item, price in prices.items()]
    return pa.Table.from_pylist(rows, ITEM_SCHEMA)


def test_of_an_event_under_several_ids_the_smallest_stays() -> None:
    table, found = cleaned([event(2), event(1), event(3)])
    assert ids(table) == ["e0001"]
    assert found == {Rule.REPEAT: 2}


@pytest.mark.parametrize(
    "other",
    [
        {Event.ITEM: "i2"},
        {Event.TYPE: "click"},
        {Event.USER: "bob"},
        {Event.VISITOR: "v1"},
        {Event.TIMESTAMP: NOON + 1},
        {Event.PLACEMENT: "home"},
        {Event.POSITION: 2},
        {Event.QUANTITY: 2.0},
    ],
)
def test_events_that_differ_in_who_what_when_or_where_are_no_repeats(other: dict[str, Any]) -> None:
    table, found = cleaned([event(1), event(2, **other)])
    assert (ids(table), found) == (["e0001", "e0002"], {})


def test_searches_for_different_words_at_one_instant_are_no_repeats() -> None:
    table, _ = cleaned([event(n, event_type="search", item_id=None, query=q) for n, q in enumerate("aab")])
    assert ids(table) == ["e0000", "e0002"]


@pytest.mark.parametrize("kind", ORDER_TYPES)
def test_equal_lines_of_an_order_are_units_unless_the_whole_order_came_twice(kind: EventType) -> None:
    def line(number: int, item: str) -> LoggedEvent:
        return event(number, event_type=kind.value, item_id=item, quantity=1.0, price=5.0)

    once = [line(1, "i1"), line(2, "i1"), line(3, "i2")]
    assert cleaned(once) == (to_table(once), {})
    table, found = cleaned([*once, line(4, "i1"), line(5, "i1"), line(6, "i2")])
    assert ids(table) == ["e0001", "e0002", "e0003"]
    assert found == {Rule.REPEAT: 3}


def test_a_bot_loses_its_whole_utc_day_and_no_other() -> None:
    day = NOON // DAY * DAY
    browsing = [event(n, timestamp=day + n * MINUTE) for n in range(4)]
    also = [
        event(10, event_type="impression", timestamp=day + HOUR),
        event(11, event_type="search", item_id=None, query="q", timestamp=day + 23 * HOUR),
    ]
    others = [event(20, timestamp=day - 1), event(21, timestamp=day + DAY), event(22, user_id="bob")]
    table, found = cleaned([*browsing, *also, *others])
    assert ids(table) == ["e0020", "e0021", "e0022"]
    assert found == {Rule.BOT: 6}


def test_a_bot_is_one_with_more_interactions_than_the_setting_and_repeats_do_not_count() -> None:
    three = [event(n, timestamp=NOON + n) for n in range(3)]
    assert cleaned(three)[1] == {}
    assert cleaned([*three, event(9, timestamp=NOON)])[1] == {Rule.REPEAT: 1}


def test_an_order_of_many_lines_is_no_bot() -> None:
    order = [event(n, event_type="purchase", item_id=f"i{n}", quantity=1.0) for n in range(50)]
    assert cleaned(order)[1] == {}


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        *(
            (Event.PRICE, value, Rule.IMPOSSIBLE_PRICE)
            for value in (0.0, -1.0, np.nan, np.inf, -np.inf, 1e300)
        ),
        *((Event.QUANTITY, value, Rule.IMPOSSIBLE_QUANTITY) for value in (0.0, -1.0, np.nan, np.inf)),
        *((Event.VALUE, value, Rule.IMPOSSIBLE_RATING) for value in (np.nan, np.inf, -1e300)),
    ],
)
def test_an_impossible_number_becomes_missing_and_its_event_stays(
    column: str, value: float, rule: Rule
) -> None:
    table, found = cleaned([event(1, **{column: value}), event(2, item_id="i2")])
    assert found == {rule: 1}
    assert table[column].to_pylist() == [None, None]


def test_a_price_far_from_its_items_median_is_absurd() -> None:
    prices = [10, 9, 11, 10, 499, 501, 0.21, 0.19]
    table, found = cleaned([event(n, timestamp=NOON + n * DAY, price=p) for n, p in enumerate(prices)])
    assert table[Event.PRICE].to_pylist() == [10, 9, 11, 10, 499, None, 0.21, None]
    assert found == {Rule.ABSURD_PRICE: 2}


def test_an_item_with_few_prices_is_held_against_its_price_in_the_catalog() -> None:
    sold = [event(1, price=10.0), event(2, item_id="i2", price=1000.0), event(3, item_id="i3", price=1000.0)]
    table, found = cleaned(sold, catalog(i1=11.0, i2=10.0, i4=5.0))
    assert table[Event.PRICE].to_pylist() == [10.0, None, 1000.0]
    assert found == {Rule.ABSURD_PRICE: 1}


def test_an_event_is_removed_when_it_names_nobody_no_item_or_an_unknown_type() -> None:
    wrong = [event(1, user_id=None), event(2, item_id=None), event(3, event_type="dance", price=-1.0)]
    right = [event(4, user_id=None, visitor_id="v"), event(5, event_type="redeem", item_id=None)]
    table, found = cleaned([*wrong, *right])
    assert ids(table) == ["e0004", "e0005"]
    assert found == {Rule.INCOMPLETE: 3}


def test_an_empty_log_is_clean() -> None:
    assert clean(EVENT_SCHEMA.empty_table(), NO_ITEMS, STRICT) == (EVENT_SCHEMA.empty_table(), [])


def test_the_columns_that_cleaning_names_are_all_that_it_needs() -> None:
    table = to_table([event(2), event(1), event(3, item_id="i2", price=-1.0)]).select(COLUMNS)
    assert ids(clean(table, NO_ITEMS, STRICT)[0]) == ["e0001", "e0003"]


# --- properties, on any log

AMOUNTS = st.sampled_from([None, np.nan, np.inf, -1.0, 0.0, 1.0, 3.0, 100.0, 1e5])
EVENTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "event_type": st.sampled_from(["view", "purchase", "impression", "search", "dance"]),
        "user_id": st.sampled_from([None, "ann", "bob"]),
        "visitor_id": st.sampled_from([None, "v1"]),
        "item_id": st.sampled_from([None, "i1", "i2"]),
        "timestamp": st.sampled_from([NOON, NOON + 1, NOON + DAY]),
        "price": AMOUNTS,
        "quantity": st.sampled_from([None, np.nan, 1.0, 2.0]),
        "value": st.sampled_from([None, np.inf, 4.0]),
    }
)
LOGS = st.lists(EVENTS, max_size=40).map(
    lambda rows: to_table(event(number, **row) for number, row in enumerate(rows))
)


@examples(deadline=None, max_examples=30)
@given(LOGS)
def test_cleaning_twice_changes_nothing_more(log: pa.Table) -> None:
    once, _ = clean(log, catalog(i2=2.0), STRICT)
    assert clean(once, catalog(i2=2.0), STRICT) == (once, [])


@examples(deadline=None, max_examples=30)
@given(LOGS, st.randoms(use_true_random=False))
def test_cleaning_does_not_depend_on_the_order_of_rows(log: pa.Table, dice: Any) -> None:
    order = list(range(len(log)))
    dice.shuffle(order)
    straight, findings = clean(log, catalog(i2=2.0), STRICT)
    shuffled, same_findings = clean(log.take(pa.array(order, pa.int64())), catalog(i2=2.0), STRICT)
    assert shuffled.sort_by(Event.ID).equals(straight)
    assert same_findings == findings


@examples(deadline=None, max_examples=30)
@given(LOGS)
def test_every_event_is_kept_or_removed_by_one_rule(log: pa.Table) -> None:
    table, findings = clean(log, NO_ITEMS, STRICT)
    assert len(table) + sum(found.rows for found in findings if found.action == Action.REMOVED) == len(log)


# --- a broken week of a simulated shop


@pytest.fixture
def shop(settings: Settings, simulated: Path) -> Settings:
    """The simulated shop's catalog, and its log until the window under test."""
    upsert_items(settings.catalog_dir, pq.read_table(simulated / "items.parquet"))
    log = pq.read_table(simulated / "events.parquet").to_pandas()
    append(settings, log[before_the_window(log)])
    return settings


@pytest.fixture
def week(simulated: Path) -> pd.DataFrame:
    """The events of the window under test."""
    log = pq.read_table(simulated / "events.parquet").to_pandas()
    return log[~before_the_window(log)].reset_index(drop=True)


def before_the_window(log: pd.DataFrame) -> pd.Series:
    return log[Event.TIMESTAMP] < pd.Timestamp(START, unit="us", tz="UTC")


def append(settings: Settings, log: pd.DataFrame) -> None:
    Archive(settings.archive_dir).append(pa.Table.from_pandas(log, EVENT_SCHEMA, preserve_index=False))


def checked(settings: Settings, log: pd.DataFrame, force: str | None = None) -> QualityReport:
    """Report on the window under test when ``log`` is what came in it."""
    append(settings, log)
    return check_window(settings, START, STOP, force)


def by_rule(report: QualityReport) -> dict[str, Finding]:
    return {finding.rule: finding for finding in report.findings}


def purchases(log: pd.DataFrame) -> pd.Series:
    return log[Event.TYPE] == "purchase"


def test_a_sound_week_passes_untouched(shop: Settings, week: pd.DataFrame) -> None:
    report = checked(shop, week)
    assert (report.findings, report.unchecked) == ((), ())
    assert report.to_text() == f"passed: {len(week):,} of {len(week):,} events kept"
    require_passed(report.summary())


def test_planted_repeats_bots_and_prices_are_counted_exactly_and_the_rest_stays(
    shop: Settings, week: pd.DataFrame
) -> None:
    repeats = week[~week[Event.TYPE].isin(ORDER_TYPES)].head(100)
    repeats = repeats.assign(event_id=repeats[Event.ID] + "-again")
    crawl = pd.DataFrame(week.iloc[[0] * (shop.quality_bot_interactions + 1)])
    crawl = crawl.assign(
        event_id=[f"crawl-{n:04}" for n in range(len(crawl))], visitor_id="bot", user_id=None
    )
    crawl[Event.TYPE], crawl[Event.ITEM] = "view", "i000001"
    crawl[Event.TIMESTAMP] = pd.Timestamp(START, unit="us", tz="UTC") + pd.to_timedelta(
        range(len(crawl)), unit="s"
    )
    spoiled = week.copy()
    sold = spoiled.index[purchases(spoiled)]
    spoiled.loc[sold[:3], Event.PRICE] = [0.0, -5.0, np.inf]
    spoiled.loc[sold[3:5], Event.PRICE] *= 100
    report = checked(shop, pd.concat([spoiled, repeats, crawl]))
    assert {finding.rule: (finding.rows, finding.action) for finding in report.findings} == {
        Rule.IMPOSSIBLE_PRICE: (3, Action.REPAIRED),
        Rule.REPEAT: (100, Action.REMOVED),
        Rule.BOT: (len(crawl), Action.REMOVED),
        Rule.ABSURD_PRICE: (2, Action.REPAIRED),
    }
    assert (report.events, report.kept) == (len(week) + 100 + len(crawl), len(week))
    assert report.passed
    assert sorted(ids(read_inputs(shop)[0]))[-len(week) :] == sorted(week[Event.ID])


def exchange(first: str, second: str) -> Spoil:
    def spoil(log: pd.DataFrame) -> pd.DataFrame:
        both = log[first].notna() & log[second].notna()
        spoiled = log[both].copy()
        spoiled[[first, second]] = log.loc[both, [second, first]].to_numpy()
        return spoiled

    return spoil


@pytest.mark.parametrize("column", [Event.USER, Event.VISITOR])
def test_a_week_with_item_and_shopper_exchanged_is_stopped(
    shop: Settings, week: pd.DataFrame, column: str
) -> None:
    spoiled = exchange(Event.ITEM, column)(week)
    report = checked(shop, spoiled)
    unknown = by_rule(report)["item that neither the catalog nor the earlier log knows"]
    assert (unknown.rows, unknown.share, unknown.action) == (report.kept, 1.0, Action.STOPS)
    assert by_rule(report)["item in place of the shopper"].rows == report.kept
    with pytest.raises(QualityError, match=r"stopped: 100% of .*exchange item_id .* force"):
        require_passed(report.summary())


def test_a_week_of_items_that_nobody_knows_is_stopped(shop: Settings, week: pd.DataFrame) -> None:
    report = checked(shop, week.assign(item_id="new-" + week[Event.ITEM]))
    named = int(week[Event.ITEM].notna().sum())
    assert [(found.rows, found.rule) for found in report.stops] == [
        (named, "item that neither the catalog nor the earlier log knows")
    ]


def test_a_week_whose_purchases_lost_their_prices_is_stopped(shop: Settings, week: pd.DataFrame) -> None:
    report = checked(shop, week.assign(price=np.nan))
    sold = int(purchases(week).sum())
    found = by_rule(report)["purchase without a usable price"]
    assert (found.rows, found.share, found.action) == (sold, 1.0, Action.STOPS)
    assert report.to_text() == f"stopped: 100% of {sold} events: purchase without a usable price"


def test_a_week_in_cents_is_repaired_away_and_stopped(shop: Settings, week: pd.DataFrame) -> None:
    report = checked(shop, week.assign(price=week[Event.PRICE] * 100))
    assert by_rule(report)[Rule.ABSURD_PRICE].rows == week[Event.PRICE].notna().sum()
    assert [found.rule for found in report.stops] == ["purchase without a usable price"]


def test_a_week_sent_twice_is_stopped(shop: Settings, week: pd.DataFrame) -> None:
    report = checked(shop, pd.concat([week, week.assign(event_id=week[Event.ID] + "-again")]))
    found = by_rule(report)
    assert found[Rule.REPEAT].rows == found["too many events removed"].rows == len(week)
    assert found["too many events removed"].share == 0.5
    assert not report.passed


def test_a_vanished_event_type_and_an_unusual_volume_only_warn(shop: Settings, week: pd.DataFrame) -> None:
    few = week[week[Event.TYPE] != "view"].head(200)
    report = checked(shop, few)
    assert report.passed
    assert {finding.rule: finding.action for finding in report.findings} == {
        "no view": Action.WARNING,
        "unusual number of events": Action.WARNING,
    }
    assert "warning: no view: " in report.to_text()


def test_a_window_without_events_passes_and_says_so(shop: Settings) -> None:
    assert check_window(shop, START, STOP).to_text() == "passed: no events"


def test_a_few_events_are_cleaned_but_stop_nothing(shop: Settings, week: pd.DataFrame) -> None:
    few = week.head(shop.quality_min_events - 1)
    report = checked(shop, few.assign(item_id="nobody-knows"))
    assert report.passed
    assert report.unchecked == ("whether the window is to be stopped: it has fewer than 100 events",)


def test_the_first_window_of_a_shop_says_what_was_not_checked(settings: Settings, week: pd.DataFrame) -> None:
    report = checked(settings, week)
    assert report.passed
    assert [reason.partition(":")[0] for reason in report.unchecked] == [
        "unknown items",
        "missing prices, vanished event types, number of events",
    ]


def test_exchanged_columns_stop_even_the_first_window_where_there_is_a_catalog(
    settings: Settings, simulated: Path, week: pd.DataFrame
) -> None:
    upsert_items(settings.catalog_dir, pq.read_table(simulated / "items.parquet"))
    report = checked(settings, exchange(Event.ITEM, Event.VISITOR)(week))
    assert "item in place of the shopper" in {finding.rule for finding in report.stops}


# --- what a stop means


def test_a_stopped_week_is_not_learned_from_until_it_passes(shop: Settings, week: pd.DataFrame) -> None:
    _, before = read_shop(shop)
    assert not checked(shop, exchange(Event.ITEM, Event.VISITOR)(week)).passed
    _, stopped = read_shop(shop)
    assert len(stopped) == len(before)
    forced = check_window(shop, START, STOP, force="it is a test")
    _, learned = read_shop(shop)
    assert len(learned) == len(before) + forced.kept


def test_a_stopped_week_does_not_make_the_next_one_pass(shop: Settings, week: pd.DataFrame) -> None:
    spoiled = exchange(Event.ITEM, Event.VISITOR)(week)
    later = spoiled.assign(event_id=spoiled[Event.ID] + "-later")
    later[Event.TIMESTAMP] += pd.Timedelta(days=7)
    assert not checked(shop, spoiled).passed
    append(shop, later)
    assert not check_window(shop, STOP, STOP + 7 * DAY).passed


def test_where_windows_overlap_the_later_decides(shop: Settings, week: pd.DataFrame) -> None:
    _, before = read_shop(shop)
    assert not checked(shop, week.assign(item_id="nobody-knows")).passed
    check_window(shop, START, STOP + HOUR, force="all is well")
    assert len(read_shop(shop)[1]) > len(before)


def test_force_lets_a_window_pass_and_stands_in_the_report(shop: Settings, week: pd.DataFrame) -> None:
    report = checked(shop, week.assign(item_id="new-" + week[Event.ITEM]), force="a new catalog")
    require_passed(report.summary())
    assert "passed: by force (a new catalog), although 100% of " in report.to_text()
    page = (shop.quality_dir / f"{report.name}.md").read_text()
    assert report.to_text() in page


def test_force_leaves_a_sound_window_alone(shop: Settings, week: pd.DataFrame) -> None:
    assert checked(shop, week, force="to be sure").forced is None


def test_the_report_lies_in_the_quality_folder_for_people_and_programs(
    shop: Settings, week: pd.DataFrame
) -> None:
    report = checked(shop, week.assign(price=np.nan))
    name = "2025-12-25T000000_2026-01-01T000000"
    assert {path.name for path in shop.quality_dir.iterdir()} == {f"{name}.md", f"{name}.json"}
    assert QualityReport.read(shop.quality_dir / f"{name}.json") == report
    content = orjson.loads((shop.quality_dir / f"{name}.json").read_bytes())
    assert (content["verdict"], content["text"]) == ("stopped", report.to_text())
    page = (shop.quality_dir / f"{name}.md").read_text()
    for finding in report.findings:
        assert f"| {finding.rule} | {finding.rows:,} | {finding.share:.1%} | {finding.action} |" in page


def test_a_day_is_checked_by_the_moment_at_its_end_and_named_by_its_date(
    shop: Settings, week: pd.DataFrame
) -> None:
    append(shop, week)
    report = check_day(shop, STOP)
    assert (report.name, report.start, report.end) == ("2025-12-31", STOP - DAY, STOP)
    assert report.passed


def test_a_damaged_report_is_named(settings: Settings) -> None:
    settings.quality_dir.mkdir()
    (settings.quality_dir / "2026-01-01.json").write_text("{}")
    with pytest.raises(InputError, match=r"2026-01-01\.json is no report"):
        read_shop(settings)


# --- real shops


@pytest.mark.slow
@pytest.mark.parametrize(
    ("log", "removed", "repaired"),
    [
        ("retailrocket_mb/events_train.parquet", 0, 0),
        ("bol_clicks/events_train.parquet", 0, 0),
        ("online_retail/transactions_train.parquet", 6, 6),  # of 454,358
    ],
)
def test_real_logs_stay_nearly_untouched_and_every_second_week_passes(
    settings: Settings, log: str, removed: int, repaired: int
) -> None:
    folder = os.environ.get("FRESHET_DATA")
    if not folder or not (Path(folder) / log).exists():
        pytest.skip(f"needs {log} in the folder that FRESHET_DATA names")
    field_map = Path(str(files("training"))) / "maps" / f"{Path(log).parent}.yaml"
    import_log(settings, Path(folder) / log, field_map=field_map)
    archive = Archive(settings.archive_dir)
    events = archive.read()
    table, findings = clean(events, read_items(settings.catalog_dir), settings)
    assert len(events) - len(table) == removed
    assert sum(found.rows for found in findings if found.action == Action.REPAIRED) == repaired
    first, last = archive.bounds() or (0, 0)
    stops = [check_window(settings, start, start + 7 * DAY).stops for start in range(first, last, 14 * DAY)]
    assert stops == [[]] * len(stops)
