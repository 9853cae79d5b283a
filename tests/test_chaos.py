"""A short run of ``make chaos``, and proof that its verdict notices what is wrong."""

import time
from pathlib import Path

import pytest

from feature_repo.events import LoggedEvent
from feature_repo.memory_event_log import MemoryEventLog
from feature_repo.schema import Event
from feature_repo.settings import Settings
from tests.chaos import chaos
from tests.chaos_verdict import archive_differences, count_differences, window_differences
from tests.feature_repo.log_events import event
from training.stream.consumer import Consumer
from training.stream.counting import Counting

SEED = 20


@pytest.mark.slow
@pytest.mark.integration
def test_no_event_is_lost_or_counted_twice_when_every_process_is_killed(tmp_path: Path) -> None:
    outcome = chaos(tmp_path, events=5000, seed=SEED, kills_per_process=1)
    assert outcome.differences == []
    assert set(outcome.kills.values()) == {1}
    assert len(outcome.kills) == 5
    assert outcome.answers.total() > outcome.answers["200"]  # some had to be sent again


def as_sent(logged: LoggedEvent) -> dict[str, object]:
    columns = {name: getattr(logged, name) for name in ("event_id", "event_type", "user_id", "item_id")}
    return {**columns, Event.TIMESTAMP: logged.timestamp}


def test_the_verdict_names_events_that_are_missing_strange_doubled_or_changed() -> None:
    logged = [event(number) for number in range(4)]
    sent = [as_sent(one) for one in logged]
    assert archive_differences(sent, logged) == []
    assert archive_differences(sent, logged[1:]) == ["1 acknowledged, but not in the archive: e000"]
    assert archive_differences(sent[1:], logged) == ["1 in the archive, but never sent: e000"]
    assert archive_differences(sent, [*logged, logged[2]]) == ["1 more than once in the archive: e002"]
    sent[3][Event.ITEM] = "another"
    assert archive_differences(sent, logged) == ["1 otherwise in the archive than it was sent: e003"]


@pytest.mark.anyio
async def test_the_verdict_names_windows_and_counts_that_differ_from_the_archive(settings: Settings) -> None:
    log, now = MemoryEventLog(settings), time.time_ns() // 1000
    logged = [event(number, timestamp=now) for number in range(3)]
    await log.append(logged)
    group = Counting()
    await Consumer(group, log.reader(group.name, "one"), batch_size=10, patience=1).round()
    assert await window_differences(log, logged, settings.window_size) == []
    assert await count_differences(log, logged) == []
    [window] = await window_differences(log, logged[1:], settings.window_size)
    assert window == "1 shoppers whose window is not that of the archive: u:ann"
    [counts] = await count_differences(log, logged[1:])
    assert counts.startswith("3 item counts that are not those of the archive: view:i0 in bucket ")
