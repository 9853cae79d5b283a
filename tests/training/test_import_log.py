import csv
import hashlib
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from feature_repo.archive import Archive
from feature_repo.catalog import read_items, read_users
from feature_repo.errors import InputError
from feature_repo.schema import EVENT_SCHEMA, SECOND, Event, Item
from feature_repo.settings import Settings
from training import cli
from training.imports.event_ids import row_ids
from training.imports.field_map import Condition, EventsMap, FieldMap, load_field_map
from training.imports.import_log import import_log
from training.imports.quality_report import QualityReport, TableCounts

HEADER = "event_type,user_id,visitor_id,item_id,timestamp,price,quantity\n"
GOOD = "view,ada,,mug,2025-01-02T03:04:05Z,,\n"
MARCH = int(datetime(2025, 3, 1, tzinfo=UTC).timestamp()) * SECOND


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


Write = Callable[[str, str], Path]


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*.parquet")))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def archived(settings: Settings) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = Archive(settings.archive_dir).read().to_pylist()
    return rows


def rejects(report: QualityReport) -> list[tuple[int, str]]:
    table = pq.read_table(report.folder / "rejects.parquet")
    return list(zip(table["freshet_row"].to_pylist(), table["freshet_reason"].to_pylist(), strict=True))


def events_of(report: QualityReport) -> TableCounts:
    assert report.events is not None
    return report.events


def adds_up(report: QualityReport) -> bool:
    counts = events_of(report)
    return counts.imported + counts.duplicates + counts.rejected == counts.rows


def test_a_csv_with_freshets_own_columns_needs_no_map(settings: Settings, write: Write) -> None:
    lines = (
        "purchase,ada,cookie,cup,2025-01-02 03:04:06.5+01:00,2.50,3\nview,,cookie,mug,1735787045000001,,\n"
    )
    report = import_log(settings, write("log.csv", HEADER + GOOD + lines))
    assert (events_of(report).rows, events_of(report).imported) == (3, 3)
    purchase, first, exact = archived(settings)
    assert (purchase[Event.USER], purchase[Event.VISITOR]) == ("ada", "cookie")
    assert (purchase[Event.PRICE], purchase[Event.QUANTITY]) == (2.5, 3.0)
    assert purchase[Event.TIMESTAMP] == datetime(2025, 1, 2, 2, 4, 6, 500_000, UTC)
    assert first[Event.ARRIVAL] == first[Event.TIMESTAMP] == datetime(2025, 1, 2, 3, 4, 5, 0, UTC)
    assert exact[Event.TIMESTAMP].microsecond == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("view,,,mug,2025-01-02,,", "missing shopper (neither user_id nor visitor_id)"),
        ("view,ada,,,2025-01-02,,", "missing item_id"),
        ("view,ada,,mug,,,", "missing timestamp"),
        ("view,ada,,mug,yesterday,,", "bad timestamp (unreadable, or before 1970)"),
        ("view,ada,,mug,-5,,", "bad timestamp (unreadable, or before 1970)"),
        ("view,ada,,mug,9e99,,", "bad timestamp (unreadable, or before 1970)"),
        ("view,ada,,mug,2200-01-01,,", "future timestamp"),
        ("gaze,ada,,mug,2025-01-02,,", "unknown event_type"),
        (",ada,,mug,2025-01-02,,", "missing event_type"),
        ("view,ada,,mug,2025-01-02,-1,", "bad price (not a number, or negative)"),
        ("view,ada,,mug,2025-01-02,NaN,", "bad price (not a number, or negative)"),
        ("view,ada,,mug,2025-01-02,1e999,", "bad price (not a number, or negative)"),
        ("view,ada,,mug,2025-01-02,,inf", "bad quantity (not a number, or negative)"),
        ('view,ada,,mug,2025-01-02,,"1,5"', "bad quantity (not a number, or negative)"),
        (
            f"view,ada,,{'m' * 129},2025-01-02,,",
            "bad item_id (over 128 characters, or with control characters)",
        ),
        ("view,a\x07da,,mug,2025-01-02,,", "bad user_id (over 128 characters, or with control characters)"),
    ],
)
def test_an_unusable_row_is_rejected_with_its_number_and_reason(
    settings: Settings, write: Write, line: str, reason: str
) -> None:
    report = import_log(settings, write("log.csv", HEADER + GOOD + line + "\n"))
    assert events_of(report).rejected_by_reason == {reason: 1}
    assert rejects(report) == [(2, reason)]
    assert adds_up(report)
    assert [row[Event.ITEM] for row in archived(settings)] == ["mug"]


def test_search_needs_no_item(settings: Settings, write: Write) -> None:
    text = "event_type,user_id,item_id,query,timestamp\nsearch,ada,,red mug,2025-01-02\n"
    import_log(settings, write("log.csv", text))
    assert [row[Event.QUERY] for row in archived(settings)] == ["red mug"]


def test_importing_twice_changes_nothing_and_real_repeats_survive(settings: Settings, write: Write) -> None:
    log = write("log.csv", HEADER + GOOD * 3 + GOOD.replace("mug", "cup"))
    assert events_of(import_log(settings, log)).imported == 4
    before = tree(settings.archive_dir)
    again = import_log(settings, log)
    assert (events_of(again).imported, events_of(again).duplicates) == (0, 4)
    assert tree(settings.archive_dir) == before
    assert sorted(row[Event.ITEM] for row in archived(settings)) == ["cup", "mug", "mug", "mug"]


def test_overlapping_files_give_one_archive_in_either_order(tmp_path: Path, write: Write) -> None:
    lines = [GOOD.replace("mug", f"item{number}") for number in range(6)]
    older, newer = write("a.csv", HEADER + "".join(lines[:4])), write("b.csv", HEADER + "".join(lines[2:]))
    forth, back = Settings(home=tmp_path / "forth"), Settings(home=tmp_path / "back")
    counts = [events_of(import_log(forth, file)) for file in (older, newer)]
    assert [(count.imported, count.duplicates) for count in counts] == [(4, 0), (2, 2)]
    for file in (newer, older):
        import_log(back, file)
    assert tree(forth.archive_dir) == tree(back.archive_dir)


def test_a_map_that_gains_a_column_makes_duplicates_only(settings: Settings, write: Write) -> None:
    rows = "ada,mug,2025-01-02,2.50\nada,mug,2025-01-02,2.75\nbob,cup,2025-01-03,1\n"
    log = write("log.csv", "user_id,item_id,at,cost\n" + rows)
    before_price: dict[str, str] = {}
    columns = "user_id: user_id, item_id: item_id, timestamp: at"
    for more, imported in (("", 3), (", price: cost", 0)):
        text = f"events:\n  columns: {{{columns}{more}}}\n  constants: {{event_type: purchase}}\n"
        report = import_log(settings, log, field_map=write("map.yaml", text))
        assert (events_of(report).imported, events_of(report).duplicates) == (imported, 3 - imported)
        before_price = before_price or tree(settings.archive_dir)
    assert tree(settings.archive_dir) == before_price


def test_csv_and_parquet_of_one_log_give_equal_ids(settings: Settings, write: Write) -> None:
    log = write("log.csv", HEADER + GOOD + "purchase,17850.0,,cup,2025-01-02,2.50,3\n")
    import_log(settings, log)
    frame = pd.DataFrame(
        {
            Event.TYPE: ["view", "purchase"],
            Event.USER: ["ada", "17850"],
            Event.ITEM: ["mug", "cup"],
            Event.TIMESTAMP: pd.to_datetime(["2025-01-02T03:04:05Z", "2025-01-02T00:00:00Z"]),
            Event.PRICE: [None, 2.5],
            Event.QUANTITY: pd.array([None, 3], "Int64"),
        }
    )
    frame.to_parquet(log.with_suffix(".parquet"))
    assert events_of(import_log(settings, log.with_suffix(".parquet"))).duplicates == 2


def test_a_repeated_event_id_is_one_event(settings: Settings, write: Write) -> None:
    text = "event_id,event_type,user_id,item_id,timestamp\n"
    rows = "e1,view,ada,mug,2025-01-03\ne1,view,ada,mug,2025-01-02\n,view,ada,mug,2025-01-02\n"
    report = import_log(settings, write("log.csv", text + rows))
    assert (events_of(report).imported, events_of(report).duplicates) == (2, 1)
    kept = next(row for row in archived(settings) if row[Event.ID] == "e1")
    assert kept[Event.TIMESTAMP].day == 2


def test_ids_that_a_float_column_made_of_integers_are_integers_again(
    settings: Settings, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"user_id": [17850.0, None], "visitor_id": ["c1", "c2"], "item_id": [22.0, 23.0]})
    frame = frame.assign(event_type="view", timestamp=pd.Timestamp("2025-01-02"))
    frame.to_parquet(tmp_path / "log.parquet")
    import_log(settings, tmp_path / "log.parquet")
    found = sorted((row[Event.USER], row[Event.ITEM]) for row in archived(settings) if row[Event.USER])
    assert found == [("17850", "22")]
    assert [row[Event.VISITOR] for row in archived(settings) if row[Event.USER] is None] == ["c2"]


def test_shifting_ends_the_log_now_with_order_and_gaps_kept_and_again_changes_nothing(
    settings: Settings, write: Write
) -> None:
    log = write("log.csv", HEADER + GOOD + GOOD.replace("03:04:05", "03:05:05").replace("mug", "cup"))
    report = import_log(settings, log, shift_to_now=True)
    first, last = archived(settings)
    assert (first[Event.ITEM], last[Event.ITEM]) == ("mug", "cup")
    assert (last[Event.TIMESTAMP] - first[Event.TIMESTAMP]).total_seconds() == 60
    assert 0 <= time.time() - last[Event.TIMESTAMP].timestamp() < 60
    assert report.shifted_by > 0
    before = tree(settings.archive_dir)
    assert events_of(import_log(settings, log, shift_to_now=True)).duplicates == 2
    assert events_of(import_log(settings, log)).duplicates == 2
    assert tree(settings.archive_dir) == before


MAP = """
delimiter: ";"
missing: ["NULL"]
events:
  columns: {user_id: customer, visitor_id: invoice, item_id: sku, timestamp: at, quantity: pieces, price: cost}
  constants: {event_type: purchase}
  units: {timestamp: ms}
  upper: [item_id]
  properties: [country]
  change:
    - when: [{column: invoice, matches: "^C"}]
      set: {event_type: return}
      absolute: [pieces_]
  reject:
    - reason: postage
      when: [{column: sku, in: [POST, DOT]}]
    - reason: giveaway
      when: [{column: cost, below: 0.01}, {column: invoice, not_matches: "^C"}]
items_from_events:
  title: {column: name, keep: most_frequent}
  price: {column: cost, keep: newest}
""".replace("pieces_", "quantity")
SHOP = f"""customer;invoice;sku;at;pieces;cost;country;name
7;1;a1;{MARCH // 1000};2;1.50;NL;Mug
NULL;2;A1;{MARCH // 1000 + 1};1;1.75;;Mug
7;C3;A1;{MARCH // 1000 + 2};-1;1.60;NL;damaged
7;4;POST;{MARCH // 1000};1;9;NL;Postage
7;5;B2;{MARCH // 1000};1;0.0;NL;Bowl
7;6;B2;{MARCH // 1000};-4;3;NL;Bowl
"""


def test_a_map_renames_translates_changes_and_rejects(settings: Settings, write: Write) -> None:
    report = import_log(settings, write("shop.csv", SHOP), field_map=write("map.yaml", MAP))
    assert events_of(report).rejected_by_reason == {
        "postage": 1,
        "giveaway": 1,
        "bad quantity (not a number, or negative)": 1,
    }
    found = [
        (row[Event.USER], row[Event.VISITOR], row[Event.TYPE], row[Event.ITEM], row[Event.QUANTITY])
        for row in archived(settings)
    ]
    assert found == [
        ("7", "1", "purchase", "A1", 2.0),
        (None, "2", "purchase", "A1", 1.0),
        ("7", "C3", "return", "A1", 1.0),
    ]
    assert [row[Event.PROPERTIES] for row in archived(settings)] == [
        '{"country":"NL"}',
        None,
        '{"country":"NL"}',
    ]
    assert [row[Event.TIMESTAMP].microsecond for row in archived(settings)] == [0, 1000, 2000]
    catalog = read_items(settings.catalog_dir).to_pylist()
    assert [(row[Item.ID], row[Item.TITLE], row[Item.PRICE]) for row in catalog] == [("A1", "Mug", 1.6)]


def test_event_types_are_translated_and_others_keep_their_name(settings: Settings, write: Write) -> None:
    log = write("log.csv", "u,i,e,t\n1,2,cart,5\n1,2,view,6\n")
    field_map = write(
        "map.yaml",
        "events:\n  columns: {user_id: u, item_id: i, event_type: e, timestamp: t}\n"
        "  units: {timestamp: s}\n  event_types: {cart: add_to_cart}\n",
    )
    import_log(settings, log, field_map=field_map)
    assert [row[Event.TYPE] for row in archived(settings)] == ["add_to_cart", "view"]


def test_catalog_and_users_come_along_with_an_account_of_their_rows(settings: Settings, write: Write) -> None:
    items = write(
        "items.csv",
        "sku,main,sub,tags,price,in_stock,born\n1,home,mugs,red|big,2.5,yes,2025-01-01\n"
        '1,home,,"[""blue""]",3,no,\n,home,mugs,,1,yes,\n2,home,mugs,,-1,yes,\n',
    )
    users = write("users.csv", "user_id,consent,age\nada,true,36\n")
    field_map = write(
        "map.yaml",
        "items:\n  columns: {item_id: sku, category: [main, sub], tags: tags, price: price, available: in_stock,"
        " created_at: born}\nusers:\n  columns: {user_id: user_id, consent: consent}\n  properties: [age]\n",
    )
    report = import_log(
        settings, write("log.csv", HEADER + GOOD), items=items, users=users, field_map=field_map
    )
    assert report.items is not None
    assert (report.items.rows, report.items.imported, report.items.duplicates) == (4, 1, 1)
    assert report.items.rejected_by_reason == {
        "missing item_id": 1,
        "bad price (not a number, or negative)": 1,
    }
    item = read_items(settings.catalog_dir).to_pylist()[0]
    assert (item[Item.CATEGORY], item[Item.TAGS], item[Item.AVAILABLE]) == ("home", ["blue"], False)
    assert read_users(settings.catalog_dir).to_pylist() == [
        {"user_id": "ada", "consent": True, "properties": '{"age":"36"}'}
    ]


def test_a_category_path_is_made_of_several_columns(settings: Settings, write: Write) -> None:
    items = write("items.csv", "item_id,a,b\nmug,home,mugs\ncup,,\nlid,,lids\n")
    field_map = write("map.yaml", "items:\n  columns: {item_id: item_id, category: [a, b]}\n")
    import_log(settings, write("log.csv", HEADER + GOOD), items=items, field_map=field_map)
    assert read_items(settings.catalog_dir)[Item.CATEGORY].to_pylist() == [None, "lids", "home > mugs"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv", b"", "log.csv is empty: export it again"),
        ("log.csv", HEADER.encode(), "has a header but no rows"),
        ("log.csv", b"event_type;user_id\nview;1\n", "name its delimiter in a map"),
        (
            "log.csv",
            b"event_type,user_id,timestamp\nview,1,5\n",
            "no column gives item_id; the file has event_",
        ),
        ("log.csv", b"event_type,item_id,timestamp\nview,1,5\n", "no column gives user_id or visitor_id"),
        ("log.csv", HEADER.encode() + b"view,ada\n", "Row #2: Expected 7 columns, got 2"),
        ("log.csv", HEADER.encode() + b"view,\xff,,mug,5,,\n", "encoding: latin-1"),
        ("log.csv", b"item_id,item_id\n1,2\n", "has two columns 'item_id': rename one"),
        ("log.parquet", b"PAR1 cut off here", "is not a whole Parquet file"),
        ("log.xlsx", b"anything", "is neither .csv nor .parquet"),
    ],
)
def test_a_bad_file_is_one_clear_line_and_nothing_is_written(
    settings: Settings,
    tmp_path: Path,
    name: str,
    content: bytes,
    message: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        import_log(settings, path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


def test_a_bad_catalog_file_keeps_good_events_out_too(
    settings: Settings, write: Write, tmp_path: Path
) -> None:
    items = write("items.csv", "")
    with pytest.raises(InputError, match=r"items\.csv is empty"):
        import_log(settings, write("log.csv", HEADER + GOOD), items=items)
    assert not settings.archive_dir.exists()


def test_the_command_prints_the_error_as_one_line_and_exits_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["freshet", "import", "--events", str(tmp_path / "none.csv")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    assert capsys.readouterr().err == f"freshet: {tmp_path / 'none.csv'} is not a file: check the path\n"


def test_the_command_prints_the_report_and_leaves_it_as_json(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRESHET_HOME", str(tmp_path / "home"))
    log = write("log.csv", HEADER + GOOD + GOOD.replace("view", "gaze"))
    shown = CliRunner().invoke(cli.app, ["import", "--events", str(log)]).output
    assert re.search(r"\n    unknown event_type +1\n", shown)
    (written,) = (tmp_path / "home" / "imports").glob("log-*/report.json")
    report = json.loads(written.read_text())
    assert report["events"]["rejected_by_reason"] == {"unknown event_type": 1}
    assert (report["first_event"], report["shoppers"]) == ("2025-01-02T03:04:05Z", 1)


def test_one_unreadable_time_does_not_hide_that_numbers_need_a_unit(settings: Settings, write: Write) -> None:
    log = write("log.csv", "u,i,t\n1,2,1735787045\n1,2,soon\n1,3,1735787046\n")
    with pytest.raises(InputError, match="the timestamp column holds bare numbers"):
        import_log(settings, log, field_map=write("map.yaml", RENAMED))


def test_a_file_without_a_usable_row_is_an_error_after_the_rejects_are_written(
    settings: Settings, write: Write
) -> None:
    log = write("log.csv", HEADER + GOOD.replace("view", "gaze") * 2 + GOOD.replace("ada", ""))
    with pytest.raises(InputError) as caught:
        import_log(settings, log)
    (folder,) = settings.imports_dir.iterdir()
    assert str(caught.value) == (
        f"{log}: none of its 3 rows can be used, most often: unknown event_type; "
        f"they are in {folder / 'rejects.parquet'}: correct the map or the export"
    )
    assert pq.read_table(folder / "rejects.parquet")["freshet_row"].to_pylist() == [1, 2, 3]
    assert json.loads((folder / "report.json").read_bytes())["events"]["imported"] == 0


def test_a_wrong_unit_is_imported_with_a_warning(settings: Settings, write: Write) -> None:
    log = write("log.csv", "u,i,t\n1,,1\n1,2,1735787045\n1,3,1735700645\n")
    field_map = write("map.yaml", RENAMED + "  units: {timestamp: ms}\n")
    report = import_log(settings, log, field_map=field_map)
    warning = "events: row 3 is of 1970-01-21T02:08:20Z: check units.timestamp in the map, unless that is so"
    assert json.loads((report.folder / "report.json").read_bytes())["warnings"] == [warning]
    assert re.search(f"^warning +{re.escape(warning)}$", report.to_text(), re.MULTILINE)
    assert events_of(report).imported == 2

    field_map = write("map.yaml", RENAMED + "  units: {timestamp: s}\n")
    assert import_log(settings, log, field_map=field_map).warnings == ()


PRICES = """u;i;t;cost;pieces
1;2;2025-01-02;12,50;1
1;3;2025-01-02;1.250;1
1;4;2025-01-02;0,5;1
1;5;2025-01-02;3;0,25
"""
PRICED = """delimiter: ";"
decimal: ","
events:
  columns: {item_id: i, user_id: u, timestamp: t, price: cost, quantity: pieces}
  constants: {event_type: view, value: "1.5"}
  reject:
    - reason: cheap
      when: [{column: cost, below: 0.75}]
items_from_events:
  price: {column: cost, keep: newest}
"""


def test_what_events_do_not_tell_of_an_item_stays_as_the_catalog_has_it(
    settings: Settings, write: Write
) -> None:
    row = "item_id,title,category,price,available\nA1,A mug,home > kitchen,9,false\n"
    import_log(settings, items=write("items.csv", row))
    import_log(settings, write("shop.csv", SHOP), field_map=write("map.yaml", MAP))
    [mug] = read_items(settings.catalog_dir).to_pylist()
    assert (mug[Item.TITLE], mug[Item.PRICE]) == ("Mug", 1.6)
    assert (mug[Item.CATEGORY], mug[Item.AVAILABLE]) == ("home > kitchen", False)


@pytest.mark.parametrize("encoding", ["utf-8", "UTF-8", "utf8"])
def test_the_mark_that_spreadsheets_put_before_utf_8_is_no_part_of_a_name(
    settings: Settings, write: Write, encoding: str
) -> None:
    log = write("log.csv", "\ufeffuser_id,item_id,event_type,timestamp\n007,0042,view,2025-01-02T03:04:05Z\n")
    import_log(settings, log, field_map=write("map.yaml", f"encoding: {encoding}"))
    assert [(row[Event.USER], row[Event.ITEM]) for row in archived(settings)] == [("007", "0042")]


def test_a_decimal_comma_is_read_where_the_map_says_so(settings: Settings, write: Write) -> None:
    report = import_log(settings, write("log.csv", PRICES), field_map=write("map.yaml", PRICED))
    assert events_of(report).rejected_by_reason == {"bad price (not a number, or negative)": 1, "cheap": 1}
    found = {
        row[Event.ITEM]: (row[Event.PRICE], row[Event.QUANTITY], row[Event.VALUE])
        for row in archived(settings)
    }
    assert found == {"2": (12.5, 1.0, 1.5), "5": (3.0, 0.25, 1.5)}
    assert sorted(read_items(settings.catalog_dir)[Item.PRICE].to_pylist()) == [3.0, 12.5]
    assert report.warnings == ()


def test_rejected_decimal_commas_are_hinted_at(settings: Settings, write: Write) -> None:
    field_map = write("map.yaml", PRICED.replace('decimal: ","\n', ""))
    report = import_log(settings, write("log.csv", PRICES), field_map=field_map)
    assert [warning.partition(":")[0] for warning in report.warnings] == ["events", "events"]
    assert all('put decimal: "," into the map' in warning for warning in report.warnings)
    assert {warning.split()[1] for warning in report.warnings} == {Event.PRICE, Event.QUANTITY}


def test_parquet_numbers_need_no_decimal_mark(settings: Settings, write: Write, tmp_path: Path) -> None:
    frame = pd.DataFrame({"u": ["1"], "i": ["2"], "t": ["2025-01-02"], "cost": [2.5], "pieces": [1.0]})
    frame.to_parquet(tmp_path / "log.parquet")
    import_log(settings, tmp_path / "log.parquet", field_map=write("map.yaml", PRICED))
    assert [row[Event.PRICE] for row in archived(settings)] == [2.5]


def test_a_catalog_comes_without_events(
    settings: Settings, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRESHET_HOME", str(settings.home))
    items = ["--items", str(write("items.csv", "item_id,price\nmug,2.5\n"))]
    users = ["--users", str(write("users.csv", "user_id,consent\nada,yes\n"))]
    for files, absent in ((items, "users file"), (users, "items file")):
        result = CliRunner().invoke(cli.app, ["import", *files])
        assert result.exit_code == 0
        assert re.search(r"\n  imported +1\n", result.output)
        assert "events file" not in result.output
        assert "shoppers" not in result.output
        assert absent not in result.output
    assert read_items(settings.catalog_dir)[Item.PRICE].to_pylist() == [2.5]
    assert read_users(settings.catalog_dir)["user_id"].to_pylist() == ["ada"]
    assert not settings.archive_dir.exists()


def test_an_import_of_no_file_says_what_to_give(settings: Settings) -> None:
    with pytest.raises(InputError, match="nothing to import: give a file with --events, --items or --users"):
        import_log(settings)


RENAMED = "events:\n  columns: {item_id: i, user_id: u, timestamp: t}\n  constants: {event_type: view}\n"
RULE = "events:\n  reject:\n    - reason: x\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("evnts: {}\n", "map.yaml:1: evnts: no such key here; did you mean 'events'?"),
        ("events:\n  columns:\n    item: sku\n", "events: Freshet has no column 'item'; it has event_id"),
        (
            "events:\n  units: {timestamp: minutes}\n",
            "map.yaml:2: events.units.timestamp: Input should be 's', 'ms' or 'us'",
        ),
        (
            RULE + "      when:\n        - {column: a, matches: '('}\n",
            "map.yaml:5: events.reject.0.when.0: not a regular expression",
        ),
        (RULE + "      when:\n        - {column: a}\n", "give exactly one of equals, in"),
        (RULE, "map.yaml:3: events.reject.0.when: this key is missing: add it"),
        ("events:\n  constants: {event_type: no}\n", "found False: put it in quotes"),
        (
            "events:\n  event_types: {cart: basket}\n",
            "map.yaml:2: events.event_types.cart: Input should be 'impression'",
        ),
        ("events: [\n", "is not YAML"),
        ("nothing", "map.yaml is not a map"),
        (
            RENAMED.replace("item_id: i", "item_id: sku"),
            "log.csv: no column 'sku', which events.columns.item_id names; the file has u, i, t",
        ),
        (RENAMED, "log.csv: the timestamp column holds bare numbers: declare in the map"),
        (
            RENAMED + "  upper: [session_id]\n",
            "events: session_id is to be converted, but columns names no source",
        ),
    ],
)
def test_a_bad_map_is_told_by_file_line_key_and_cure(
    settings: Settings, write: Write, text: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        import_log(settings, write("log.csv", "u,i,t\n1,2,3\n"), field_map=write("map.yaml", text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not settings.archive_dir.exists()


def test_the_map_in_the_documentation_is_a_valid_one_that_shows_every_key(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "import.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "map.yaml").write_text(example, encoding="utf-8")
    fields = load_field_map(tmp_path / "map.yaml")
    assert fields.events is not None
    assert fields.model_fields_set == set(FieldMap.model_fields)
    assert fields.events.model_fields_set == set(EventsMap.model_fields)
    conditions = {field.alias or name for name, field in Condition.model_fields.items()}
    assert all(f"`{key}: " in page for key in conditions - {"column"})


CELLS = st.one_of(st.none(), st.sampled_from(["a", "b", "ab"]))


@hypothesis_settings(deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS, st.integers(0, 3)), min_size=1, max_size=30), data=st.data())
def test_ids_depend_on_content_alone_and_are_distinct(
    rows: list[tuple[str | None, str | None, int]], data: st.DataObject
) -> None:
    def ids(order: list[tuple[str | None, str | None, int]]) -> list[str]:
        columns = [
            pa.array([row[0] for row in order], pa.string()),
            pa.array([row[1] for row in order], pa.string()),
        ]
        times = pa.array([row[2] for row in order], EVENT_SCHEMA.field(Event.TIMESTAMP).type)
        made: list[str] = row_ids(
            pa.table([*columns, times], names=[Event.USER, Event.ITEM, Event.TIMESTAMP])
        ).to_pylist()
        return made

    made = ids(rows)
    assert len(set(made)) == len(rows)
    assert set(ids(data.draw(st.permutations(rows)))) == set(made)
    assert set(ids(rows[: len(rows) // 2])) <= set(made)
    assert all(len(event_id) == 32 and int(event_id, 16) >= 0 for event_id in made)


@hypothesis_settings(max_examples=40, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40))
def test_whatever_stands_in_a_cell_every_row_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    home = tmp_path_factory.mktemp("home")
    columns = [Event.TYPE, Event.USER, Event.ITEM, Event.TIMESTAMP, Event.PRICE, Event.PROPERTIES]
    good = ["view", "ada", "mug", "2025-01-02", "1", "{}"]
    rows = [good] + [[*good[:index], text, *good[index + 1 :]] for index in range(len(good))]
    pd.DataFrame(rows, columns=columns).to_csv(home / "log.csv", index=False, quoting=csv.QUOTE_ALL)
    report = import_log(Settings(home=home), home / "log.csv")
    assert events_of(report).rows == len(rows)
    assert adds_up(report)
    assert len(Archive(home / "archive")) == events_of(report).imported


def test_lines_of_one_moment_stand_in_no_order_that_a_model_could_learn(
    settings: Settings, tmp_path: Path
) -> None:
    baskets, items = 200, [f"i{number}" for number in range(10)]
    lines = [
        f"u{basket:03},{item},purchase,2025-06-01T{basket // 60:02}:{basket % 60:02}:00Z"
        for basket in range(baskets)
        for item in items
    ]
    path = tmp_path / "events.csv"
    path.write_text("\n".join(["user_id,item_id,event_type,timestamp", *lines]))
    import_log(settings, path)
    archived = (
        Archive(settings.archive_dir).read().sort_by([(Event.USER, "ascending"), (Event.ID, "ascending")])
    )
    baskets_in_order = archived[Event.ITEM].to_numpy().reshape(baskets, len(items))
    follows = {(a, b): 0 for a in items for b in items}
    for basket in baskets_in_order:
        for pair in pairwise(basket):
            follows[pair] += 1
    expected = baskets / len(items)
    assert max(follows.values()) < expected + 6 * expected**0.5
