"""The worked examples of docs/import.md on the logs that they were written for."""

import os
from importlib.resources import files
from pathlib import Path

import pytest

from feature_repo.archive import Archive
from feature_repo.catalog import read_items
from feature_repo.schema import Event, Item
from feature_repo.settings import Settings
from tests.training.test_import_log import events_of, tree
from training.imports.import_log import import_log
from training.imports.quality_report import QualityReport

pytestmark = pytest.mark.slow


def import_shop(settings: Settings, log: str) -> QualityReport:
    folder = os.environ.get("FRESHET_DATA")
    if not folder or not (Path(folder) / log).exists():
        pytest.skip(f"needs {log} in the folder that FRESHET_DATA names")
    field_map = Path(str(files("training"))) / "maps" / f"{Path(log).parent}.yaml"
    return import_log(settings, Path(folder) / log, field_map=field_map)


def test_every_line_of_online_retail_is_accounted_for_and_a_second_import_is_all_duplicates(
    settings: Settings,
) -> None:
    log = "online_retail/transactions_train.parquet"
    first = events_of(import_shop(settings, log))
    assert (first.rows, first.imported, first.duplicates) == (459_243, 454_358, 0)
    assert first.imported + first.rejected == first.rows
    assert first.rejected_by_reason["postage or carriage"] == 1854
    archive = tree(settings.archive_dir)
    second = events_of(import_shop(settings, log))
    assert (second.imported, second.duplicates, second.rejected) == (0, first.imported, first.rejected)
    assert tree(settings.archive_dir) == archive

    events = (
        Archive(settings.archive_dir)
        .read(columns=[Event.TYPE, Event.USER, Event.VISITOR, Event.ITEM])
        .to_pandas()
    )
    cancelled = events[Event.VISITOR].str.startswith("C")
    assert ((events[Event.TYPE] == "return") == cancelled).all()
    assert events[Event.ITEM].str.fullmatch(r"[0-9]{5}[A-Z]*|DCGS.*|PADS").all()
    assert events[Event.USER].dropna().str.fullmatch("[0-9]{5}").all()
    catalog = read_items(settings.catalog_dir)
    titles = dict(zip(catalog[Item.ID].to_pylist(), catalog[Item.TITLE].to_pylist(), strict=True))
    assert titles["85123A"] == "WHITE HANGING HEART T-LIGHT HOLDER"
    assert set(events[Event.ITEM]) == set(titles)


def test_retailrocket_carts_become_add_to_cart(settings: Settings) -> None:
    report = import_shop(settings, "retailrocket_mb/events_train.parquet")
    assert (events_of(report).rows, events_of(report).imported) == (87_642, 87_642)
    assert report.event_types == {"view": 67_747, "add_to_cart": 11_265, "purchase": 8_630}


def test_bol_sessions_become_visitors(settings: Settings) -> None:
    report = import_shop(settings, "bol_clicks/events_train.parquet")
    assert (events_of(report).imported, report.shoppers) == (102_878, 21_531)
    events = Archive(settings.archive_dir).read(columns=[Event.USER, Event.VISITOR, Event.SESSION])
    assert events[Event.USER].null_count == events.num_rows
    assert events[Event.VISITOR] == events[Event.SESSION]
