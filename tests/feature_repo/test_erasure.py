"""Erasing a shopper from the event log, the same on both logs; then what the archive does not take back."""

import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from feature_repo.archive import Archive
from feature_repo.erasure import Erasure, PendingErasures, Store, Trace
from feature_repo.event_log import EventLog, Verdict, partition_of
from feature_repo.events import LoggedEvent, to_table
from feature_repo.log_reader import ARCHIVE_GROUP
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.schema import SECOND
from feature_repo.settings import Settings
from feature_repo.tombstones import Tombstones
from tests.feature_repo.log_events import HOSTILE_IDS, NOON, event, impression

pytestmark = pytest.mark.anyio

LATER = NOON + 1000 * SECOND


def erasure(user_id: str | None, *visitor_ids: str, at: int = LATER) -> Erasure:
    return Erasure(user_id, frozenset(visitor_ids), at)


async def ids_in(log: EventLog, group: str = "readers") -> list[str]:
    """The event_ids that a group has not done with."""
    reader = log.reader(group, "reader")
    found = [d.event().event_id for n in range(log.partitions) for d in await reader.deliver(n, 1000)]
    return sorted(found)


async def window(log: EventLog, user_id: str | None, visitor_id: str | None = None) -> list[str]:
    return [seen.event_id for seen in (await log.shopper(user_id, visitor_id)).window]


@pytest.mark.parametrize("an_id", HOSTILE_IDS)
async def test_an_erased_user_leaves_nothing_and_others_keep_all(log: EventLog, an_id: str) -> None:
    await log.append(
        [
            event(1, user_id=an_id),
            event(2, user_id=an_id, visitor_id="tab"),
            impression(3, user_id=an_id),
            event(4, user_id=None, visitor_id="tab"),
            event(5, user_id="bob"),
        ]
    )
    assert await log.visitors_of(an_id) == {"tab"}
    removed = await log.erase(erasure(an_id, "tab"))
    assert {store: removed[store] for store in removed if removed[store]} == {
        Store.EVENT_LOG: 4,
        Store.SESSION_WINDOWS: 3,
        Store.EXPOSURES: 1,
        Store.LINKS: 1,
        Store.DEDUP_MARKS: 4,
    }
    assert await ids_in(log) == ["e005"]
    shopper = await log.shopper(None, "tab")
    assert (shopper.user_id, shopper.window, shopper.exposures) == (None, [], {})
    assert (await log.shopper(an_id, None)).window == []
    assert await window(log, "bob") == ["e005"]


async def test_an_erased_visitor_is_gone_from_the_window_of_the_user_who_shared_it(log: EventLog) -> None:
    await log.append([event(1), event(2, user_id="ann", visitor_id="tab"), event(3, visitor_id="tab")])
    await log.append([impression(4, user_id="ann", visitor_id="tab"), impression(5)])
    await log.erase(erasure(None, "tab"))
    shopper = await log.shopper("ann", "tab")
    assert [seen.event_id for seen in shopper.window] == ["e001"]
    assert set(shopper.exposures) == {"i5"}
    assert await ids_in(log) == ["e001", "e005"]
    assert (await log.shopper(None, "tab")).user_id is None


async def test_traces_of_events_that_have_left_the_log_are_found_by_the_archives_word(log: EventLog) -> None:
    shared = [event(1, user_id="ann", visitor_id="tab"), impression(2, user_id="ann", visitor_id="tab")]
    await log.append([*shared, event(3)])
    partition, reader = partition_of("u:ann", log.partitions), log.reader(ARCHIVE_GROUP, "reader")
    held = await reader.deliver(partition, 10)
    await reader.acknowledge(partition, [delivery.entry_id for delivery in held])
    await reader.trim(partition)
    await log.erase(erasure(None, "tab"), [Trace.of(gone) for gone in shared])
    shopper = await log.shopper("ann", None)
    assert ([seen.event_id for seen in shopper.window], shopper.exposures) == (["e003"], {})
    assert await log.append([shared[0]]) == [Verdict.ACCEPTED]  # its mark is gone


async def test_what_was_delivered_and_not_acknowledged_is_erased_and_the_rest_comes_again(
    log: EventLog,
) -> None:
    partition, dead = partition_of("u:ann", log.partitions), log.reader("readers", "dead")
    tab = event(2, user_id="ann", visitor_id="tab")
    await log.append([event(1), tab, event(3)])
    first, _, _ = await dead.deliver(partition, 10)
    await dead.acknowledge(partition, [first.entry_id])
    await log.append([event(4)])
    await log.erase(erasure(None, "tab"))
    assert [d.event().event_id for d in await dead.deliver(partition, 10)] == ["e003", "e004"]
    assert await dead.deliveries(partition, (await dead.deliver(partition, 1))[0].entry_id) > 1
    assert await ids_in(log, "others") == ["e001", "e003", "e004"]
    await log.append([event(5)])
    assert [d.event().event_id for d in await dead.deliver(partition, 10)] == ["e003", "e004", "e005"]
    assert (await dead.lag(partition)).entries == 3


async def test_dead_letters_of_the_shopper_go_and_others_stay(log: EventLog) -> None:
    await log.append([event(1), event(2, user_id="bob")])
    reader = log.reader("readers", "reader")
    for partition in range(log.partitions):
        for delivery in await reader.deliver(partition, 10):
            await reader.bury(partition, delivery, "ValueError: no")
    removed = await log.erase(erasure("ann"))
    assert removed[Store.DEAD_LETTERS] == 1
    left = [letter for n in range(log.partitions) for letter in await reader.dead_letters(n)]
    assert [LoggedEvent.from_json(letter.content).user_id for letter in left] == ["bob"]


async def test_what_comes_after_the_erasure_is_a_new_life(log: EventLog) -> None:
    at = NOON + 5 * SECOND
    await log.append(
        [event(1), impression(2), event(8), impression(9), event(7, user_id="ann", visitor_id="v")]
    )
    await log.erase(erasure("ann", "v", at=at))
    shopper = await log.shopper(None, "v")
    assert (shopper.user_id, [seen.event_id for seen in shopper.window]) == ("ann", ["e007", "e008"])
    assert set(shopper.exposures) == {"i9"}
    assert await ids_in(log) == ["e007", "e008", "e009"]


async def test_an_unknown_shopper_is_erased_without_a_trace_and_twice_is_once(log: EventLog) -> None:
    await log.append([event(1)])
    assert not any((await log.erase(erasure("nobody", "none"))).values())
    await log.erase(erasure("ann"))
    assert not any((await log.erase(erasure("ann"))).values())


@pytest.mark.integration
async def test_redis_keeps_no_byte_of_an_erased_entry_however_it_left(
    redis_url: str, clean_redis: Any, settings: Settings
) -> None:
    log = RedisEventLog.connect(redis_url, settings)
    await log.append([event(1, user_id="ann", visitor_id="needle"), event(2)])
    partition, reader = partition_of("u:ann", log.partitions), log.reader(ARCHIVE_GROUP, "reader")
    held = await reader.deliver(partition, 10)
    await reader.acknowledge(partition, [delivery.entry_id for delivery in held])
    assert await reader.trim(partition) == 1
    stream = f"freshet:{{{partition}}}:log"
    assert b"needle" in clean_redis.dump(stream)  # trimmed, and yet there
    await log.erase(erasure(None, "needle"), [Trace.of(event(1, user_id="ann", visitor_id="needle"))])
    assert b"needle" not in clean_redis.dump(stream)
    assert not [key for key in clean_redis.keys() if b"needle" in key]  # noqa: SIM118
    await log.append([event(3)])
    assert [d.event().event_id for d in await reader.deliver(partition, 10)] == ["e003"]
    await log.aclose()


def archived(archive: Archive) -> Sequence[str]:
    return archive.read()["event_id"].to_pylist()


def test_the_archive_takes_no_event_from_before_an_erasure_and_all_of_after(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    both = event(2, user_id="bob", visitor_id="tab")
    archive.append(to_table([event(1), both, event(3, user_id="bob")]))
    gone = erasure("ann", "tab", at=NOON + 5 * SECOND)
    PendingErasures(tmp_path / "erasures", archive.tombstones).put(gone)
    assert archive.erase([gone]) == 2
    assert archived(archive) == ["e003"]
    late = event(9, arrival_time=NOON)
    Archive(tmp_path).append(to_table([event(1), both, event(3, user_id="bob"), event(6), late]))
    assert archived(archive) == ["e003", "e006"]
    Archive(tmp_path).compact()
    assert archived(archive) == ["e003", "e006"]


def test_the_archive_knows_what_an_erasure_must_find_online(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    events = [event(1), impression(2, user_id="ann", visitor_id="tab"), event(3, visitor_id="tab")]
    archive.append(to_table([*events, event(4, user_id="bob")]))
    assert archive.visitors_of("ann") == {"tab"}
    assert sorted(archive.traces(erasure("ann", "tab"))) == [Trace.of(one) for one in events]


def test_erasures_that_are_the_first_at_once_share_one_key(tmp_path: Path) -> None:
    ready = Barrier(8)

    def remember(tombstones: Tombstones, number: int) -> str:
        ready.wait()
        tombstones.add([f"u:{number}"], NOON)
        return tombstones.hash_of("u:ann")

    for attempt in range(10):
        tombstones = Tombstones(tmp_path / str(attempt))
        with ThreadPoolExecutor(ready.parties) as pool:
            hashes = set(pool.map(partial(remember, tombstones), range(ready.parties)))
        assert hashes == {Tombstones(tmp_path / str(attempt)).hash_of("u:ann")}


def test_tombstones_tell_nobody_who_was_erased(tmp_path: Path) -> None:
    tombstones = Tombstones(tmp_path)
    tombstones.add(["u:ann"], NOON)
    tombstones.add(["u:ann"], NOON + 5)
    other = Tombstones(tmp_path)
    assert (other.erased_at("u:ann"), other.erased_at("v:ann")) == (NOON + 5, None)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [
        path for path in files if b"ann" in str(path.relative_to(tmp_path)).encode() + path.read_bytes()
    ]
    assert stat.S_IMODE((tmp_path / ".erased" / "key").stat().st_mode) == 0o600
    elsewhere = Tombstones(tmp_path / "elsewhere")
    assert elsewhere.hash_of("u:ann") != tombstones.hash_of("u:ann")


def test_an_erasure_is_pending_for_every_process_until_it_is_done(tmp_path: Path) -> None:
    pending = PendingErasures(tmp_path / "erasures", Tombstones(tmp_path))
    pending.put(erasure("ann"))
    found = erasure("ann").with_visitors(["tab"])
    pending.put(found)
    again = PendingErasures(tmp_path / "erasures", Tombstones(tmp_path))
    assert again.all() == [found]
    assert Tombstones(tmp_path).erased_at("v:tab") == LATER
    again.done(found)
    assert pending.all() == []
    assert stat.S_IMODE((tmp_path / "erasures").stat().st_mode) == 0o700
