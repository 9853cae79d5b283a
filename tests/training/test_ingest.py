"""Draining the log into the archive, the same from both logs."""

import asyncio
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from feature_repo.archive import Archive
from feature_repo.event_log import EventLog
from feature_repo.events import to_table
from feature_repo.settings import Settings
from tests.conftest import OpenLog
from tests.feature_repo.log_events import deliveries, event, histories
from training.ingest import drain

pytestmark = pytest.mark.anyio

SHOPPERS = [event(number, user_id=f"user-{number % 30}") for number in range(100)]


class FailingArchive(Archive):
    """Stops at its second append, before or after the events are on disk."""

    def __init__(self, root: Path, *, after_writing: bool) -> None:
        super().__init__(root)
        self.appends = 0
        self.after_writing = after_writing

    def append(self, events: pa.Table) -> None:
        self.appends += 1
        if self.appends < 2:
            return super().append(events)
        if self.after_writing:
            super().append(events)
        raise OSError("the machine went away")


async def test_everything_logged_is_archived_once(log: EventLog, tmp_path: Path, settings: Settings) -> None:
    archive = Archive(tmp_path / "archive")
    await log.append(SHOPPERS)
    assert await drain(log, archive, settings) == 100
    assert archive.read().equals(to_table(SHOPPERS))


async def test_draining_again_finds_only_what_is_new(
    log: EventLog, tmp_path: Path, settings: Settings
) -> None:
    archive = Archive(tmp_path / "archive")
    await log.append(SHOPPERS[:60])
    assert await drain(log, archive, settings) == 60
    assert await drain(log, archive, settings) == 0
    await log.append(SHOPPERS)
    assert await drain(log, archive, settings) == 40
    assert archive.read().equals(to_table(SHOPPERS))


async def test_what_another_consumer_has_under_way_is_waited_for_and_taken_over_from_the_dead(
    log: EventLog, tmp_path: Path, settings: Settings
) -> None:
    archive, hasty = Archive(tmp_path / "archive"), settings.model_copy(update={"consumer_idle_seconds": 0.3})
    await log.append(SHOPPERS)
    living, dead = log.reader("archive", "living"), log.reader("archive", "dead")
    held = await living.deliver(0, 1000)
    await dead.deliver(1, 1000)
    draining = asyncio.create_task(drain(log, archive, hasty))
    await asyncio.sleep(0)
    assert not draining.done()
    archive.append(to_table([delivery.event() for delivery in held]))
    await living.acknowledge(0, [delivery.entry_id for delivery in held])
    assert await draining == len(SHOPPERS) - len(held)
    archive.compact()
    assert archive.read().equals(to_table(SHOPPERS))


async def test_small_batches_drain_everything(log: EventLog, tmp_path: Path, settings: Settings) -> None:
    archive = Archive(tmp_path / "archive")
    await log.append(SHOPPERS)
    assert await drain(log, archive, settings, batch_size=1) == 100
    assert archive.read().equals(to_table(SHOPPERS))


@pytest.mark.parametrize("after_writing", [False, True])
async def test_a_crash_before_acknowledging_loses_nothing_and_doubles_nothing(
    log: EventLog, tmp_path: Path, settings: Settings, *, after_writing: bool
) -> None:
    await log.append(SHOPPERS)
    with pytest.raises(OSError, match="went away"):
        await drain(
            log, FailingArchive(tmp_path / "archive", after_writing=after_writing), settings, batch_size=2
        )
    await log.append([event(200)])
    archive = Archive(tmp_path / "archive")
    await drain(log, archive, settings)
    archive.compact()
    assert archive.read().equals(to_table([*SHOPPERS, event(200)]))


async def test_what_the_archive_has_leaves_the_log(log: EventLog, tmp_path: Path, settings: Settings) -> None:
    await log.append([event(number) for number in range(10)])
    await drain(log, Archive(tmp_path / "archive"), settings)
    late = log.reader("late", "late")
    held = [await late.deliver(partition, 100) for partition in range(log.partitions)]
    # The last entry of a stream stays, as the mark of how far its readers are.
    assert [delivery.event() for batch in held for delivery in batch] == [event(9)]


@hypothesis_settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_archive_depends_on_the_set_of_events_alone(open_log: OpenLog, data: st.DataObject) -> None:
    history = data.draw(histories())
    batches = data.draw(deliveries(history))
    drained_after = data.draw(st.sets(st.sampled_from(range(len(batches)))))

    async def deliver_all(root: Path) -> None:
        settings = Settings(log_partitions=3, redis_timeout_seconds=5)
        async with open_log(settings) as log:
            archive = Archive(root)
            for number, batch in enumerate(batches):
                await log.append(batch)
                if number in drained_after:
                    await drain(log, archive, settings, batch_size=3)
            await drain(log, archive, settings)
            archive.compact()
            ordered = sorted(history, key=lambda happened: (happened.timestamp, happened.event_id))
            assert archive.read().equals(to_table(ordered))

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(deliver_all(Path(folder)))
