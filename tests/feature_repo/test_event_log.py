"""Appending, delivering and trimming, the same on both logs; then what only a server can show."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis import Redis
from redis.asyncio import RedisCluster
from redis.crc import key_slot

from feature_repo.erasure import Erasure, Store
from feature_repo.errors import LogUnavailableError
from feature_repo.event_log import EventLog, Verdict, partition_of
from feature_repo.events import LoggedEvent
from feature_repo.log_reader import ARCHIVE_GROUP, Delivery, Lag, LogReader
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.redis_functions import explained
from feature_repo.redis_layout import stream_key
from feature_repo.schema import SECOND
from feature_repo.settings import Settings
from serving.embedded_redis import embedded_redis, server_binary
from tests.conftest import free_port, wait_until
from tests.feature_repo.log_events import HOSTILE_IDS, NOON, event, impression

pytestmark = pytest.mark.anyio

ANN = "u:ann"


async def taken(reader: LogReader, partition: int, count: int) -> list[LoggedEvent]:
    """The next entries of a partition, acknowledged."""
    batch = await reader.deliver(partition, count)
    await reader.acknowledge(partition, [delivery.entry_id for delivery in batch])
    return events_of(batch)


def events_of(batch: Sequence[Delivery]) -> list[LoggedEvent]:
    """The events of entries."""
    return [delivery.event() for delivery in batch]


async def delivered(log: EventLog, group: str = "readers") -> list[LoggedEvent]:
    """Everything of every partition that the group has not had, acknowledged."""
    found = []
    for partition in range(log.partitions):
        found += await taken(log.reader(group, "reader"), partition, 1000)
    return found


async def test_events_are_delivered_as_they_were_appended(log: EventLog) -> None:
    events = [
        event(1, query="mugs", quantity=2, price=9.5, value=4.5, position=3, properties='{"a":1}'),
        impression(2, placement="home", request_id="r1", campaign_id="c", session_id="s"),
        event(3, visitor_id="v"),
    ]
    assert await log.append(events) == [Verdict.ACCEPTED] * 3
    assert sorted(await delivered(log), key=lambda logged: logged.event_id) == events


async def test_an_empty_batch_is_accepted(log: EventLog) -> None:
    assert await log.append([]) == []


async def test_an_event_given_again_later_is_a_duplicate_and_logged_once(log: EventLog) -> None:
    assert await log.append([event(1)]) == [Verdict.ACCEPTED]
    assert await log.append([event(1)]) == [Verdict.DUPLICATE]
    assert await delivered(log) == [event(1)]


async def test_an_event_id_repeated_in_one_batch_counts_once(log: EventLog) -> None:
    verdicts = await log.append([event(1), event(2), event(1)])
    assert verdicts == [Verdict.ACCEPTED, Verdict.ACCEPTED, Verdict.DUPLICATE]
    assert await delivered(log) == [event(1), event(2)]


async def test_verdicts_stand_in_the_order_of_the_events_across_partitions(log: EventLog) -> None:
    shoppers = [event(number, user_id=f"user-{number}") for number in range(40)]
    await log.append(shoppers[::3])
    expected = [Verdict.ACCEPTED if number % 3 else Verdict.DUPLICATE for number in range(40)]
    assert await log.append(shoppers) == expected


@pytest.mark.parametrize("bad", [event(2, user_id=None), impression(2, item_id=None)])
async def test_one_incomplete_event_keeps_the_whole_batch_out(log: EventLog, bad: LoggedEvent) -> None:
    with pytest.raises(ValueError, match="needs a"):
        await log.append([event(1), bad])
    assert await log.append([event(1)]) == [Verdict.ACCEPTED]


async def test_a_partition_is_delivered_in_batches_of_the_size_asked_for(log: EventLog) -> None:
    events = [event(number) for number in range(5)]
    await log.append(events)
    partition = partition_of(ANN, log.partitions)
    batches = [await taken(log.reader("readers", "reader"), partition, 2) for _ in range(4)]
    assert batches == [events[:2], events[2:4], events[4:], []]


async def test_what_was_not_acknowledged_comes_again_before_what_is_new(log: EventLog) -> None:
    partition = partition_of(ANN, log.partitions)
    await log.append([event(1), event(2)])
    reader = log.reader("readers", "reader")
    first, second = await reader.deliver(partition, 10)
    await reader.acknowledge(partition, [first.entry_id])
    await log.append([event(3)])
    again = await reader.deliver(partition, 10)
    assert again[0] == second
    assert events_of(again) == [event(2), event(3)]


async def test_consumers_of_a_group_share_the_work_and_groups_do_not(log: EventLog) -> None:
    partition = partition_of(ANN, log.partitions)
    await log.append([event(1), event(2)])
    one = await log.reader("readers", "one").deliver(partition, 1)
    two = await log.reader("readers", "two").deliver(partition, 10)
    assert events_of(one + two) == [event(1), event(2)]
    assert await delivered(log, "others") == [event(1), event(2)]


async def test_trimming_leaves_what_any_group_still_needs(log: EventLog) -> None:
    partition = partition_of(ANN, log.partitions)
    await log.append([event(number) for number in range(6)])
    slow = log.reader("slow", "reader")
    assert await slow.trim(partition) == 0  # nobody has read
    await delivered(log, ARCHIVE_GROUP)
    batch = await slow.deliver(partition, 4)
    await slow.acknowledge(partition, [delivery.entry_id for delivery in batch[:2]])
    assert await slow.trim(partition) == 2
    assert events_of(await slow.deliver(partition, 10)) == [event(number) for number in range(2, 6)]


async def test_nothing_is_trimmed_before_the_archive_has_it_though_its_group_never_read(
    log: EventLog,
) -> None:
    partition = partition_of(ANN, log.partitions)
    await log.append([event(number) for number in range(6)])
    await delivered(log, "fast")
    assert await log.reader("fast", "reader").trim(partition) == 0
    assert await delivered(log, ARCHIVE_GROUP) == [event(number) for number in range(6)]
    assert await log.reader("fast", "reader").trim(partition) == 5  # the last stays


async def test_nothing_is_trimmed_before_a_group_that_joined_has_passed_it(log: EventLog) -> None:
    partition, late = partition_of(ANN, log.partitions), log.reader("late", "reader")
    await late.join()
    await late.join()
    await log.append([event(number) for number in range(6)])
    await delivered(log, ARCHIVE_GROUP)
    assert await late.trim(partition) == 0
    assert await taken(late, partition, 10) == [event(number) for number in range(6)]


async def test_a_partition_that_nobody_wrote_has_nothing_to_deliver_or_trim(log: EventLog) -> None:
    reader = log.reader("readers", "reader")
    assert await reader.trim(0) == 0
    assert await reader.deliver(0, 10) == []
    assert await reader.trim(0) == 0
    assert await reader.lag(0) == Lag(0, None)


async def test_what_a_dead_consumer_held_is_taken_over_when_it_was_silent_long_enough(log: EventLog) -> None:
    partition = partition_of(ANN, log.partitions)
    await log.append([event(1), event(2)])
    dead, heir = log.reader("readers", "dead"), log.reader("readers", "heir")
    held = await dead.deliver(partition, 10)
    assert await heir.take_over(partition, 60) == 0
    assert await heir.deliver(partition, 10) == []
    assert await heir.take_over(partition, 0) == 2
    assert await heir.deliver(partition, 10) == held
    assert await dead.deliver(partition, 10) == []
    assert await log.reader("others", "heir").take_over(partition, 0) == 0


async def test_an_entry_knows_how_often_it_was_delivered(log: EventLog) -> None:
    partition, reader = partition_of(ANN, log.partitions), log.reader("readers", "reader")
    await log.append([event(1)])
    for times in (1, 2, 3):
        [delivery] = await reader.deliver(partition, 10)
        assert await reader.deliveries(partition, delivery.entry_id) == times
    await reader.acknowledge(partition, [delivery.entry_id])
    assert await reader.deliveries(partition, delivery.entry_id) == 0


async def test_a_buried_entry_is_done_for_its_group_and_kept_with_the_reason(log: EventLog) -> None:
    partition, reader = partition_of(ANN, log.partitions), log.reader("readers", "reader")
    await log.append([event(1), event(2)])
    first, _ = await reader.deliver(partition, 10)
    await reader.bury(partition, first, "ValueError: no")
    await reader.bury(partition, first, "ValueError: again")  # as after a crash: it is buried once
    [letter] = await reader.dead_letters(partition)
    assert (letter.group, letter.reason, letter.content) == ("readers", "ValueError: no", event(1).to_json())
    assert events_of(await reader.deliver(partition, 10)) == [event(2)]
    assert await delivered(log, "others") == [event(1), event(2)]
    await reader.exhume(partition, [letter.letter_id])
    assert await reader.dead_letters(partition) == []


async def test_a_group_lags_by_what_it_was_not_given_and_by_what_it_has_not_done(log: EventLog) -> None:
    partition, reader = partition_of(ANN, log.partitions), log.reader("readers", "reader")
    before = time.time_ns() // 1_000_000 * 1000
    await log.append([event(number) for number in range(5)])
    assert (await reader.lag(partition)).entries == 5
    first, *_ = await reader.deliver(partition, 2)
    lag = await reader.lag(partition)
    assert lag.entries == 5
    assert lag.since is not None
    assert before <= lag.since <= time.time_ns() // 1000
    await reader.acknowledge(partition, [first.entry_id])
    assert (await reader.lag(partition)).entries == 4
    await delivered(log)
    assert await reader.lag(partition) == Lag(0, None)


@pytest.fixture
def redis_log(clean_redis: Redis, redis_url: str, settings: Settings) -> RedisEventLog:
    assert clean_redis.dbsize() == 0
    return RedisEventLog.connect(redis_url, settings)


@pytest.mark.integration
class TestRedis:
    async def test_every_key_but_the_streams_expires(
        self, redis_log: RedisEventLog, clean_redis: Redis, settings: Settings
    ) -> None:
        await redis_log.append([event(1), event(2, visitor_id="v", user_id="ann"), impression(3)])
        days = {
            "seen": settings.dedup_hours / 24,
            "window": settings.window_ttl_days,
            "shown": settings.exposures_ttl_days,
            "link": settings.link_ttl_days,
        }
        lives: dict[str, Any] = {}
        for key in clean_redis.keys():  # type: ignore[union-attr]  # noqa: SIM118
            lives.setdefault(key.decode().split(":")[2], clean_redis.ttl(key))
        assert lives.pop("log") == -1
        assert lives == pytest.approx({kind: life * 86_400 for kind, life in days.items()}, abs=5)

    async def test_all_keys_of_a_call_lie_in_one_slot_whatever_the_ids(
        self, redis_log: RedisEventLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[tuple[Any, ...]] = []
        functions = redis_log._functions
        send = functions.send

        async def spy(commands: Any) -> Any:
            calls.extend(commands)
            return await send(commands)

        monkeypatch.setattr(functions, "send", spy)
        await redis_log.append(
            [
                event(number, event_id=an_id, user_id=user, visitor_id=an_id, item_id=an_id)
                for number, an_id in enumerate(HOSTILE_IDS)
                for user in (an_id, None)
            ]
        )
        slots = [{key_slot(key.encode()) for key in call[3 : 3 + call[2]]} for call in calls]
        assert [len(slot) for slot in slots] == [1] * len(calls)
        assert len(set.union(*slots)) > 1

    async def test_a_server_that_forgot_the_functions_gets_them_again(
        self, redis_log: RedisEventLog, clean_redis: Redis
    ) -> None:
        await redis_log.append([event(1)])
        clean_redis.function_flush()
        assert await redis_log.append([event(1), event(2)]) == [Verdict.DUPLICATE, Verdict.ACCEPTED]

    async def test_a_consumer_that_is_gone_is_forgotten_once_it_holds_nothing(
        self, redis_log: RedisEventLog, clean_redis: Redis
    ) -> None:
        def consumers() -> set[bytes]:
            stream = stream_key(partition_of(ANN, redis_log.partitions))
            return {one["name"] for one in clean_redis.xinfo_consumers(stream, "readers")}  # type: ignore[union-attr]

        partition = partition_of(ANN, redis_log.partitions)
        await redis_log.append([event(number) for number in range(1, 3)])
        heir = redis_log.reader("readers", "heir")
        await heir.deliver(partition, 1)
        await redis_log.reader("readers", "dead").deliver(partition, 10)
        assert await heir.take_over(partition, 3600) == 0
        assert consumers() == {b"heir", b"dead"}
        assert await heir.take_over(partition, 0) == 2
        assert consumers() == {b"heir"}
        assert events_of(await heir.deliver(partition, 10)) == [event(1), event(2)]

    async def test_a_full_server_refuses_and_takes_the_same_events_later(
        self, redis_log: RedisEventLog, clean_redis: Redis
    ) -> None:
        await redis_log.append([event(1)])
        clean_redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(LogUnavailableError, match=r"takes no writes.*give Redis memory"):
                await redis_log.append([event(2)])
        finally:
            clean_redis.config_set("maxmemory", 0)
        assert await redis_log.append([event(1), event(2)]) == [Verdict.DUPLICATE, Verdict.ACCEPTED]

    async def test_it_works_in_a_cluster(self, tmp_path: Path, settings: Settings) -> None:
        with cluster_of_one(tmp_path) as port:
            log = RedisEventLog(RedisCluster("127.0.0.1", port), settings)
            events = [
                event(number, user_id=f"user-{number}", visitor_id=f"visitor-{number}")
                for number in range(20)
            ]
            assert await log.append(events) == [Verdict.ACCEPTED] * 20
            assert await log.append(events) == [Verdict.DUPLICATE] * 20
            shopper = await log.shopper(None, "visitor-7")
            assert (shopper.user_id, [seen.event_id for seen in shopper.window]) == ("user-7", ["e007"])
            assert {logged.event_id for logged in await delivered(log)} == {f"e{n:03}" for n in range(20)}
            assert await log.visitors_of("user-7") == {"visitor-7"}
            removed = await log.erase(Erasure("user-7", frozenset(["visitor-7"]), NOON + 100 * SECOND))
            assert removed[Store.SESSION_WINDOWS] == removed[Store.LINKS] == removed[Store.DEDUP_MARKS] == 1
            assert (await log.shopper(None, "visitor-7")).window == []
            await log.aclose()


@pytest.mark.integration
class TestOutage:
    async def test_a_dead_server_is_reported_at_once_and_is_back_with_what_it_acknowledged(
        self, settings: Settings
    ) -> None:
        log = RedisEventLog.connect(f"redis://127.0.0.1:{settings.redis_port}", settings)
        with embedded_redis(settings):
            await log.append([event(1), event(2)])
            wait_until_on_disk(settings)
            os.kill(server_pid(settings), signal.SIGKILL)
            began = time.monotonic()
            with pytest.raises(LogUnavailableError, match=r"cannot be reached.*FRESHET_REDIS_URL"):
                await log.append([event(3)])
            with pytest.raises(LogUnavailableError):
                await log.shopper("ann", None)
            with pytest.raises(LogUnavailableError):
                await log.ping()
            assert time.monotonic() - began < 1
        with embedded_redis(settings):
            assert await log.append([event(2), event(3)]) == [Verdict.DUPLICATE, Verdict.ACCEPTED]
            assert await delivered(log) == [event(1), event(2), event(3)]
        await log.aclose()

    def test_a_connection_that_is_lost_before_it_is_written_to_is_reported_under_uvloop_too(self) -> None:
        async def write_to_lost_connection() -> None:
            async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
                _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.transport.abort()
                with suppress(ConnectionError):
                    await writer.wait_closed()
                with explained():
                    writer.writelines([b"PING"])

        with pytest.raises(LogUnavailableError, match="cannot be reached"):
            uvloop.run(write_to_lost_connection())

    async def test_a_server_that_hangs_costs_no_more_than_the_timeout(self, settings: Settings) -> None:
        hasty = settings.model_copy(update={"redis_timeout_seconds": 0.2})
        with embedded_redis(settings) as url:
            log = RedisEventLog.connect(url, hasty)
            pid = server_pid(settings)
            os.kill(pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                with pytest.raises(LogUnavailableError):
                    await log.append([event(1)])
                with pytest.raises(LogUnavailableError, match=r"no reply within 0\.2 seconds"):
                    await log.shopper("ann", None)
                assert time.monotonic() - began < 1.5
            finally:
                os.kill(pid, signal.SIGCONT)
            assert (await log.append([event(1)]))[0] in Verdict
            assert [seen.event_id for seen in (await log.shopper("ann", None)).window] == ["e001"]
            await log.aclose()

    async def test_a_connection_that_was_lost_while_nobody_read_costs_no_reading(
        self, settings: Settings
    ) -> None:
        with embedded_redis(settings) as url, Redis.from_url(url) as other:
            log = RedisEventLog.connect(url, settings)
            await log.append([event(1)])
            read = await log.shopper("ann", None)
            assert other.client_kill_filter(_type="normal", skipme=True) >= 2
            assert await log.shopper("ann", None) == read
            await log.aclose()


def server_pid(settings: Settings) -> int:
    with Redis("127.0.0.1", settings.redis_port) as client:
        return int(client.info("server")["process_id"])


def wait_until_on_disk(settings: Settings) -> None:
    with Redis("127.0.0.1", settings.redis_port) as client:
        local, _ = client.waitaof(1, 0, 5000)
    assert local == 1


@contextmanager
def cluster_of_one(folder: Path) -> Iterator[int]:
    """A cluster whose single node owns every slot; it refuses calls across slots like any other."""
    port, bus = free_port(), free_port()
    command = [server_binary(), "--port", port, "--cluster-enabled", "yes", "--cluster-port", bus]
    command += ["--bind", "127.0.0.1", "--dir", folder, "--logfile", folder / "cluster.log", "--save", ""]
    process = subprocess.Popen([str(word) for word in command])
    try:
        with Redis("127.0.0.1", port) as node:
            wait_until(node.ping)
            node.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16_383)
            wait_until(lambda: node.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        yield port
    finally:
        process.kill()
        process.wait()
