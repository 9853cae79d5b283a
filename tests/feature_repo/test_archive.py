import hashlib
import multiprocessing
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.archive import Archive
from feature_repo.catalog import change_items, find_item, read_items, read_users, upsert_items
from feature_repo.durable_file import replace_file, sync
from feature_repo.errors import InputError
from feature_repo.events import LoggedEvent, to_table
from feature_repo.schema import DAY, EVENT_SCHEMA, ITEM_SCHEMA, USER_SCHEMA, Event, Item

NOON = 1_750_000_000_000_000 // DAY * DAY + DAY // 2


def event(event_id: str, timestamp: int = NOON, arrival_time: int = NOON, **others: Any) -> LoggedEvent:
    others = {"user_id": "ada", "item_id": "mug"} | others
    return LoggedEvent(
        event_id=event_id, event_type="view", timestamp=timestamp, arrival_time=arrival_time, **others
    )


def fingerprint(root: Path) -> dict[str, str]:
    files = sorted(root.rglob("*.parquet"))
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def ids(table: pa.Table) -> list[str]:
    found: list[str] = table[Event.ID].to_pylist()
    return found


EVENTS = st.lists(
    st.builds(
        event,
        st.sampled_from("abcdef"),
        timestamp=st.sampled_from([NOON, NOON + 1, NOON + DAY, NOON - DAY]),
        arrival_time=st.sampled_from([NOON, NOON + 5]),
        item_id=st.sampled_from([None, "mug", "cup"]),
        price=st.sampled_from([None, 1.0, 2.5]),
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=12, deadline=None)
@given(events=EVENTS, seed=st.integers(0, 1000))
def test_compacted_bytes_depend_only_on_the_set_of_rows(
    tmp_path_factory: pytest.TempPathFactory, events: list[LoggedEvent], seed: int
) -> None:
    at_once = Archive(tmp_path_factory.mktemp("at_once"))
    at_once.append(to_table(events))
    at_once.compact()

    in_pieces = Archive(tmp_path_factory.mktemp("in_pieces"))
    shuffled = events + random.Random(seed).choices(events, k=5)
    random.Random(seed).shuffle(shuffled)
    for start in range(0, len(shuffled), 4):
        in_pieces.append(to_table(shuffled[start : start + 4]))
        if start % 8:
            in_pieces.compact()
    in_pieces.compact()

    assert fingerprint(in_pieces.root) == fingerprint(at_once.root)
    assert sorted(ids(at_once.read())) == sorted({found.event_id for found in events})


def test_of_one_event_id_on_two_dates_the_earlier_arrival_stays(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(to_table([event("e", timestamp=NOON, arrival_time=NOON + 9), event("other")]))
    archive.append(to_table([event("e", timestamp=NOON + DAY, arrival_time=NOON + 3)]))
    report = archive.compact()
    assert (report.events, report.duplicates_removed) == (2, 1)
    kept = archive.read().to_pylist()
    assert [(row[Event.ID], row[Event.ITEM]) for row in kept] == [("other", "mug"), ("e", "mug")]
    assert archive.bounds() == (NOON, NOON + DAY)


def test_a_date_whose_every_event_belongs_elsewhere_disappears(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(to_table([event("e", timestamp=NOON, arrival_time=NOON)]))
    archive.compact()
    archive.append(to_table([event("e", timestamp=NOON + DAY, arrival_time=NOON - 1)]))
    archive.compact()
    assert ids(archive.read()) == ["e"]
    assert archive.bounds() == (NOON + DAY, NOON + DAY)


def test_appending_a_batch_again_leaves_the_same_files(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    batch = to_table([event("a"), event("b", timestamp=NOON + DAY)])
    archive.append(batch)
    before = fingerprint(tmp_path)
    archive.append(batch)
    assert fingerprint(tmp_path) == before


def test_compaction_rewrites_only_the_dates_that_need_it(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(to_table([event("a"), event("b", timestamp=NOON + DAY)]))
    assert len(archive.compact().dates_rewritten) == 2
    archive.append(to_table([event("c", timestamp=NOON + DAY)]))
    untouched = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    rewritten = archive.compact().dates_rewritten
    assert [f"event_date={date}" for date in rewritten] == [sorted(p.parent.name for p in untouched)[-1]]
    first_date = min(untouched)
    assert first_date.stat().st_mtime_ns == untouched[first_date]
    assert archive.compact().dates_rewritten == ()


@pytest.mark.parametrize("fatal_call", range(9))
def test_a_compaction_killed_at_any_step_loses_nothing_and_the_next_heals_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fatal_call: int
) -> None:
    events = [event(name, timestamp=NOON + day * DAY) for day, name in enumerate("abc")]
    moved = event("a", timestamp=NOON + 2 * DAY, arrival_time=NOON - 1)
    healthy, killed = Archive(tmp_path / "healthy"), Archive(tmp_path / "killed")
    for archive in (healthy, killed):
        archive.append(to_table(events))
        archive.compact()
        archive.append(to_table([moved, event("d")]))
    healthy.compact()

    calls = 0

    def dying(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > fatal_call:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr("feature_repo.archive.replace_file", dying(replace_file))
        patch.setattr("feature_repo.archive.sync", dying(sync))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        try:
            killed.compact()
        except KeyboardInterrupt:
            assert set(ids(killed.read())) == set("abcd")
    killed.compact()
    assert fingerprint(killed.root) == fingerprint(healthy.root)


def test_an_append_killed_before_its_first_rename_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path)
    archive.append(to_table([event("a")]))

    def no_rename(*_: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", no_rename)
        with pytest.raises(OSError, match="disk full"):
            archive.append(to_table([event("b"), event("c", timestamp=NOON + DAY)]))
    assert ids(archive.read()) == ["a"]
    archive.append(to_table([event("d")]))
    assert ids(archive.read()) == ["a", "d"]
    assert not list((tmp_path / ".staging").iterdir())


def test_read_returns_the_half_open_range_sorted_and_opens_no_other_date(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    days = [event(f"e{day}", timestamp=NOON + day * DAY) for day in range(4)]
    archive.append(to_table(reversed(days)))
    archive.compact()
    (tmp_path / min(fingerprint(tmp_path))).write_bytes(b"unreadable on purpose")
    found = archive.read(NOON + DAY, NOON + 3 * DAY, columns=[Event.ITEM, Event.ID])
    assert found.to_pydict() == {Event.ITEM: ["mug", "mug"], Event.ID: ["e1", "e2"]}
    with pytest.raises(InputError, match=r"is damaged .* import its events again"):
        archive.read()


@pytest.mark.parametrize("compacted", [True, False])
def test_read_gives_each_event_of_a_date_once_in_order(tmp_path: Path, *, compacted: bool) -> None:
    archive = Archive(tmp_path)
    archive.append(to_table([event("b"), event("z", timestamp=NOON - 1)]))
    archive.append(to_table([event("b"), event("a")]))
    if compacted:
        archive.compact()
    assert ids(archive.read()) == ["z", "a", "b"]
    assert archive.read().schema == EVENT_SCHEMA


def test_an_absent_archive_is_empty(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "none")
    assert (archive.read().num_rows, len(archive), archive.bounds()) == (0, 0, None)
    assert archive.compact().dates_rewritten == ()


def test_length_and_bounds_come_from_metadata(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(
        to_table([event("a"), event("b", timestamp=NOON + DAY + 3), event("c", timestamp=NOON - 7)])
    )
    assert (len(archive), archive.bounds()) == (3, (NOON - 7, NOON + DAY + 3))


def test_a_table_of_another_schema_is_refused_with_the_column_named(tmp_path: Path) -> None:
    table = to_table([event("a")])
    archive = Archive(tmp_path)
    with pytest.raises(InputError, match=r"price is string: the archive takes double"):
        archive.append(table.set_column(13, Event.PRICE, pa.array(["1"])))
    with pytest.raises(InputError, match="not event_id"):
        archive.append(table.select([Event.ID]))
    holes = table.set_column(0, pa.field(Event.ID, pa.string()), pa.nulls(1, pa.string()))
    with pytest.raises(InputError, match="column event_id has missing values"):
        archive.append(holes)
    assert fingerprint(tmp_path) == {}


def _append_many(root: Path, writer: int) -> None:
    for number in range(8):
        Archive(root).append(to_table([event(f"{writer}-{number}")]))


def test_writers_and_compactions_in_several_processes_lose_and_double_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(tmp_path, writer)) for writer in range(2)]
    for writer in writers:
        writer.start()
    archive = Archive(tmp_path)
    while any(writer.is_alive() for writer in writers):
        archive.compact()
        seen = ids(archive.read())
        assert len(seen) == len(set(seen))
    for writer in writers:
        writer.join()
    archive.compact()
    assert sorted(ids(archive.read())) == sorted(
        f"{writer}-{number}" for writer in range(2) for number in range(8)
    )


def test_a_reader_beside_compactions_always_sees_every_event_once(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(to_table([event(f"old-{number}") for number in range(50)]))
    stop = threading.Event()

    def compact_on() -> None:
        number = 0
        while not stop.is_set():
            archive.append(to_table([event(f"new-{number}")]))
            archive.compact()
            number += 1

    thread = threading.Thread(target=compact_on)
    thread.start()
    try:
        for _ in range(30):
            seen = [found for found in ids(Archive(tmp_path).read()) if found.startswith("old")]
            assert sorted(seen) == sorted(f"old-{number}" for number in range(50))
    finally:
        stop.set()
        thread.join()


def test_files_carry_the_event_schema_in_hive_folders(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(to_table([event("a", timestamp=0)]))
    archive.compact()
    assert list(fingerprint(tmp_path)) == ["event_date=1970-01-01/compacted.parquet"]
    assert pq.read_schema(tmp_path / "event_date=1970-01-01/compacted.parquet") == EVENT_SCHEMA


def items(*rows: tuple[str, str]) -> pa.Table:
    return pa.Table.from_pylist(
        [{Item.ID: key, Item.TITLE: title} for key, title in rows], schema=ITEM_SCHEMA
    )


def test_the_catalog_keeps_the_newest_row_of_each_item(tmp_path: Path) -> None:
    upsert_items(tmp_path, items(("b", "bowl"), ("a", "apple"), ("b", "big bowl")))
    upsert_items(tmp_path, items(("c", "cup"), ("a", "green apple")))
    found = read_items(tmp_path).select([Item.ID, Item.TITLE]).to_pydict()
    assert found == {Item.ID: ["a", "b", "c"], Item.TITLE: ["green apple", "big bowl", "cup"]}


def test_changes_of_items_made_at_once_are_all_kept(tmp_path: Path) -> None:
    upsert_items(tmp_path, items(("a", "")))

    def longer(before: pa.Table) -> pa.Table:
        [title] = before[Item.TITLE].to_pylist()
        return items(("a", title + "x"))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: change_items(tmp_path, longer), range(24))) == [1] * 24
    assert read_items(tmp_path)[Item.TITLE].to_pylist() == ["x" * 24]


def test_an_item_is_found_by_its_id(tmp_path: Path) -> None:
    assert find_item(tmp_path, "a") is None
    upsert_items(tmp_path, items(("b", "bowl"), ("a", "apple")))
    found = find_item(tmp_path, "b")
    assert found is not None
    assert (found[Item.ID], found[Item.TITLE], found[Item.PRICE]) == ("b", "bowl", None)
    assert find_item(tmp_path, "c") is None


def test_an_absent_catalog_is_an_empty_table(tmp_path: Path) -> None:
    assert read_items(tmp_path) == ITEM_SCHEMA.empty_table()
    assert read_users(tmp_path) == USER_SCHEMA.empty_table()
