"""The served log of days that are over is merged: no row is lost or doubled, whatever is killed, whoever reads."""

import asyncio
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from feature_repo.durable_file import replace_file, sync
from feature_repo.erasure import Erasure
from feature_repo.schema import DAY, SECOND
from feature_repo.session_window import WindowEvent
from feature_repo.settings import Settings
from serving.in_time.attempt import Rung
from serving.metrics import Metrics
from serving.query import Question
from serving.recommender import Recommender
from serving.replays.logged_request import LoggedRequest, find_request
from serving.served import folder_swap
from serving.served.date_folder import folder_of
from serving.served.request_id import moment_of, new_request_id
from serving.served.served_log import ITEMS, RANKING_SCHEMA, REQUESTS, Served, ServedLog
from serving.served.served_slate import ServedItems, ServedSlate
from tests.tiny_bundle import TRAINED_AT, tiny_bundle
from tests.training.test_impressions import reacted
from training import cli, served_merge
from training.erase import _served_log
from training.impressions import impression_rows
from training.locks import AT_ONCE, FOREVER, served_lock
from training.served_merge import merge_folder, merge_next, merge_served
from training.stream import stream

BUNDLE = tiny_bundle()
NOW = time.time_ns() // 1000
OLD = NOW // DAY * DAY - 3 * DAY
PAUSE = served_merge.BETWEEN_SECONDS
SLATE = 3
VISITORS = ("ada", "bea")


@pytest.fixture(autouse=True)
def _without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_merge, "BETWEEN_SECONDS", 0)


def slate(request_id: str, as_of: int, visitor: str) -> ServedSlate:
    events = [WindowEvent(TRAINED_AT, "e", "click", "kettle")]
    question = Question(events=events, shopper_key=f"v:{visitor}", as_of=as_of, k=SLATE)
    [answer] = Recommender(BUNDLE, 10).recommend([question.encode(BUNDLE)])
    return ServedSlate(
        request_id=request_id,
        user_id=None,
        visitor_id=visitor,
        placement=None,
        model_version="v1",
        bundle="v1",
        question=question,
        candidates=10,
        catalog_state=None,
        activity_state=None,
        degraded=[],
        ranked_by=Rung.RANKERS,
        items=ServedItems.shown(answer, BUNDLE),
    )


def serve(
    settings: Settings, start: int = OLD, files: int = 4, visitors: tuple[str, ...] = ("ada", "bea")
) -> list[str]:
    """What two servers leave, in turns and not in order, a slate of each visitor in a file; the ids."""
    logs = [ServedLog(settings.served_dir, 100, 1, Metrics()) for _ in range(2)]
    logs[1]._files = 1000  # in reality it has another process id
    told = []
    for number in range(files):
        for place, visitor in enumerate(VISITORS):
            as_of = start + number * 5 * SECOND + (len(VISITORS) - place) * SECOND // 10
            told.append(new_request_id(as_of))
            logs[number % 2].put(slate(told[-1], as_of, visitor))
        logs[number % 2]._flush()
    return told


def rows(settings: Settings, table: str) -> list[dict[str, Any]]:
    """All that a reader finds who takes the folders as they are."""
    files = settings.served_dir.glob(f"{table}/date=*/[!.]*.parquet")
    found = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    for row in found:
        row[Served.FEATURES] = repr(row.get(Served.FEATURES))  # not a number is not equal to itself
    return sorted(found, key=lambda row: (row[Served.REQUEST], row.get(Served.POSITION)))


def everything(settings: Settings) -> list[list[dict[str, Any]]]:
    return [rows(settings, table) for table in (REQUESTS, ITEMS)]


def found(settings: Settings, told: list[str]) -> list[LoggedRequest | None]:
    return [find_request(settings.served_dir, name, moment_of(name) or 0) for name in told]


def merged_files(settings: Settings, table: str) -> list[Path]:
    return sorted((settings.served_dir / table / folder_of(OLD)).iterdir())


def test_a_day_that_is_over_lies_in_one_file_of_each_table_with_the_same_rows(settings: Settings) -> None:
    told = serve(settings)
    before = everything(settings)
    assert [len(of_table) for of_table in before] == [8, 8 * SLATE]
    assert merge_served(settings) == 2
    assert everything(settings) == before
    for table in (REQUESTS, ITEMS):
        [path] = merged_files(settings, table)
        first, last, *_ = path.name.split("-")
        moments = [moment_of(name) or 0 for name in told]
        assert (int(first), int(last)) == (min(moments), max(moments))
    assert sorted(path.name for path in settings.served_dir.iterdir()) == [ITEMS, REQUESTS]


def test_a_merged_day_is_left_alone(settings: Settings) -> None:
    serve(settings)
    merge_served(settings)
    before = {path: path.stat().st_ctime_ns for path in settings.served_dir.rglob("*")}
    assert merge_served(settings) == 0
    assert {path: path.stat().st_ctime_ns for path in settings.served_dir.rglob("*")} == before


def test_days_that_a_server_may_still_write_are_left_alone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: NOW * 1000)
    for start in (NOW // DAY * DAY, NOW // DAY * DAY - DAY):
        serve(settings, start)
    names = sorted(settings.served_dir.rglob("*"))
    assert merge_served(settings) == 0
    assert sorted(settings.served_dir.rglob("*")) == names


def test_rows_of_two_ranking_schemas_stay_in_two_files(settings: Settings) -> None:
    serve(settings)
    files = sorted((settings.served_dir / ITEMS / folder_of(OLD)).iterdir())
    for path in files[1::2]:
        table = pq.ParquetFile(path).read().replace_schema_metadata({RANKING_SCHEMA: b"another"})
        pq.write_table(table, path)
    known = pq.read_schema(files[0]).metadata
    before = everything(settings)
    merge_served(settings)
    assert everything(settings) == before
    schemas = [pq.read_schema(path).metadata for path in merged_files(settings, ITEMS)]
    assert sorted(schemas, key=str) == sorted([known, {RANKING_SCHEMA: b"another"}], key=str)


def test_files_and_row_groups_are_of_bounded_size_and_in_the_order_of_the_ids(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = serve(settings, files=9)
    before = everything(settings)
    monkeypatch.setitem(served_merge._ROWS, ITEMS, served_merge._Rows(6 * SLATE, 2 * SLATE))
    merge_served(settings)
    assert everything(settings) == before
    assert len(merged_files(settings, REQUESTS)) == 1
    files = [pq.ParquetFile(path) for path in merged_files(settings, ITEMS)]
    assert [file.metadata.num_rows for file in files] == [6 * SLATE] * 3
    groups = [file.metadata.row_group(number).column(0).statistics for file in files for number in range(3)]
    assert [(group.min, group.max) for group in groups] == list(
        zip(sorted(told)[::2], sorted(told)[1::2], strict=True)
    )
    assert None not in found(settings, told)


@pytest.mark.parametrize("again", [0, 1, 2, 4])
@pytest.mark.parametrize("fatal_call", range(10))
def test_a_merge_killed_at_any_step_and_once_more_loses_and_doubles_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, fatal_call: int, again: int
) -> None:
    told = serve(settings, files=3)
    before, logged = everything(settings), found(settings, told)
    for fatal in (fatal_call, again):
        with monkeypatch.context() as patch:
            killed_at(patch, fatal)
            try:
                merge_served(settings)
            except KeyboardInterrupt:
                for table, known in zip((REQUESTS, ITEMS), before, strict=True):
                    assert rows(settings, table) in (known, [])  # [] for the instant between the renames
                assert found(settings, told) == logged
    with served_lock(settings, AT_ONCE):
        assert everything(settings) == before
    merge_served(settings)
    assert everything(settings) == before
    assert found(settings, told) == logged
    assert len(merged_files(settings, REQUESTS)) == len(merged_files(settings, ITEMS)) == 1
    assert len(list(settings.served_dir.glob("*/*"))) == 2


def killed_at(patch: pytest.MonkeyPatch, fatal_call: int) -> None:
    """Have the process die in its next step but so many, in the middle of it where a step has a middle."""
    calls = 0

    def dying(real: Any, last_act: Any = lambda *_: None) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > fatal_call:
                last_act(*arguments)
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return call

    def remove_one(folder: Path, *_: Any) -> None:
        for path in sorted(folder.glob("*"))[:1]:
            path.unlink()

    patch.setattr(served_merge, "replace_file", dying(replace_file))
    patch.setattr(folder_swap, "sync", dying(sync))
    patch.setattr(Path, "rename", dying(Path.rename))
    patch.setattr(shutil, "rmtree", dying(shutil.rmtree, remove_one))


def test_who_reads_while_days_are_merged_finds_every_request_with_its_items(settings: Settings) -> None:
    told = [name for day in range(8) for name in serve(settings, OLD - day * DAY, files=12)]
    logged = found(settings, told)
    merging = threading.Thread(target=merge_served, args=(settings,))
    merging.start()
    while merging.is_alive():
        assert found(settings, told) == logged
    merging.join()
    assert found(settings, told) == logged
    assert len(list(settings.served_dir.glob("*/*/*"))) == 16


@pytest.mark.parametrize("moment", ["while the files are merged", "between the renames"])
def test_a_file_that_comes_late_is_kept(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    told = serve(settings)
    late: list[str] = []

    def serve_late() -> None:
        if not late:
            late.extend(serve(settings, OLD + DAY // 2, files=1))

    def written(*arguments: Any) -> None:
        serve_late()
        replace_file(*arguments)

    def renamed(path: Path, target: Path) -> Path:
        if ".merged" in path.name:
            serve_late()
        return real(path, target)

    real = Path.rename
    with monkeypatch.context() as patch:
        if moment == "between the renames":
            patch.setattr(Path, "rename", renamed)
        else:
            patch.setattr(served_merge, "replace_file", written)
        merge_served(settings)
    assert len(late) == 2
    assert None not in found(settings, told + late)
    merge_served(settings)
    assert [len(of_table) for of_table in everything(settings)] == [10, 10 * SLATE]
    assert None not in found(settings, told + late)
    assert len(merged_files(settings, REQUESTS)) == len(merged_files(settings, ITEMS)) == 1


def test_a_damaged_file_and_a_full_disk_leave_a_day_as_it_is_and_hold_up_no_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    serve(settings)
    serve(settings, OLD - DAY)
    before = sorted(settings.served_dir.rglob("*"))

    def full(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(served_merge, "replace_file", full)
        assert merge_served(settings) == 0
    assert sorted(settings.served_dir.rglob("*")) == before
    assert "is not merged: no space left" in caplog.text
    damaged = min((settings.served_dir / REQUESTS / folder_of(OLD - DAY)).iterdir())
    damaged.write_bytes(b"nothing")
    assert merge_served(settings) == 3
    assert damaged.exists()


def test_who_holds_the_served_log_is_not_waited_for(settings: Settings) -> None:
    serve(settings)
    with served_lock(settings, FOREVER):
        assert merge_served(settings) == 0
        assert not merge_folder(settings, settings.served_dir / REQUESTS / folder_of(OLD))
    assert merge_served(settings) == 2


def test_an_erasure_leaves_the_others_of_a_merged_day_and_its_row_groups(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = serve(settings)
    monkeypatch.setitem(served_merge._ROWS, ITEMS, served_merge._Rows(1000, 2 * SLATE))
    merge_served(settings)
    assert _served_log(settings, [Erasure(None, frozenset({"ada"}), NOW)]) == 4 * (1 + SLATE)
    kept = found(settings, told)
    assert [None if one is None else one.visitor_id for one in kept] == [None, "bea"] * 4
    [path] = merged_files(settings, ITEMS)
    assert pq.ParquetFile(path).metadata.num_row_groups == 2
    assert merge_served(settings) == 0


def test_training_learns_the_same_from_a_merged_day(settings: Settings) -> None:
    told = serve(settings)
    item = rows(settings, ITEMS)[0][Served.ITEM]
    events = reacted(*((name, item, "click") for name in told[2:]))
    unmerged = impression_rows(settings.served_dir, events, NOW, 100)
    merge_served(settings)
    merged = impression_rows(settings.served_dir, events, NOW, 100)
    assert len(merged.groups) == 6
    np.testing.assert_array_equal(merged.features, unmerged.features)
    np.testing.assert_array_equal(merged.relevance, unmerged.relevance)
    newest = impression_rows(settings.served_dir, events, NOW, 2)
    np.testing.assert_array_equal(newest.relevance, merged.relevance[-2 * SLATE :])
    assert len(newest.groups) == 2


@pytest.mark.integration
def test_an_ingestion_merges_all_days_that_are_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(3):
        serve(settings, OLD - day * DAY)
    monkeypatch.setattr(cli, "read_settings", lambda: settings)
    assert CliRunner().invoke(cli.app, ["ingest"]).exit_code == 0
    assert len(list(settings.served_dir.glob("*/date=*/*-merged-*"))) == 6
    assert merge_served(settings) == 0


@pytest.mark.anyio
async def test_the_stream_merges_all_days_that_are_over_but_those_that_it_cannot(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HOUSEKEEPING_SECONDS", 0.001)
    for day in range(3):
        serve(settings, OLD - day * DAY)
    damaged = min((settings.served_dir / ITEMS / folder_of(OLD - 2 * DAY)).iterdir())
    damaged.write_bytes(b"nothing")
    stopping = asyncio.Event()
    house = asyncio.create_task(stream._keep_house(settings, stopping))
    async with asyncio.timeout(60):
        while len(list(settings.served_dir.glob("*/date=*/*-merged-*"))) < 5:
            await asyncio.sleep(0.01)
        stopping.set()
        await house
    assert damaged.exists()


def test_a_process_that_ends_leaves_a_day_as_it_is(settings: Settings) -> None:
    serve(settings)
    before = sorted(settings.served_dir.rglob("*"))
    assert merge_next(settings, set(), lambda: True) is False
    assert sorted(settings.served_dir.rglob("*")) == before


def test_a_day_is_merged_only_where_the_disk_keeps_room_for_what_is_served(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    serve(settings)
    before = sorted(settings.served_dir.rglob("*"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert merge_served(settings) == 0
    assert sorted(settings.served_dir.rglob("*")) == before
    assert "MiB of the disk must be free" in caplog.text


def test_who_waits_for_the_served_log_comes_between_two_days(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_merge, "BETWEEN_SECONDS", PAUSE)
    for day in range(4):
        serve(settings, OLD - day * DAY)
    merging = threading.Thread(target=merge_served, args=(settings,))
    merging.start()
    with served_lock(settings, FOREVER):
        assert len(list(settings.served_dir.glob("*/date=*/*-merged-*"))) < 8
    merging.join()
