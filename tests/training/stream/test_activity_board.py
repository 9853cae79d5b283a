"""What the board publishes is what the partitions counted; the same on both logs."""

import time

import pytest

from feature_repo import activity_message
from feature_repo.activity_message import ITEM, PublishedActivity
from feature_repo.event_log import EventLog
from feature_repo.schema import HOUR, EventType
from tests.feature_repo.log_events import event
from tests.training.stream.test_counting import count_all
from training.stream import activity_board
from training.stream.activity_board import ActivityBoard

pytestmark = pytest.mark.anyio

LOOKS_AT_ALL = 5 + 12 + 24
"""As many as there are buckets."""


def now() -> int:
    return time.time_ns() // 1000


def rows(activity: PublishedActivity) -> dict[str, list[int]]:
    """The counts by item."""
    return {row.pop(ITEM): list(row.values()) for row in activity.counts.to_pylist()}


async def test_counts_of_all_partitions_and_buckets_are_summed(log: EventLog) -> None:
    moment = now()
    shoppers = [f"user-{n}" for n in range(30)]
    await log.append(
        [event(n, item_id="mug", user_id=user, timestamp=moment) for n, user in enumerate(shoppers)]
    )
    await log.append(
        [
            event(100, item_id="lamp", timestamp=moment - 5 * HOUR, event_type=EventType.PURCHASE.value),
            event(101, item_id="lamp", timestamp=moment - 4 * HOUR, event_type=EventType.IMPRESSION.value),
            event(102, item_id="lamp", timestamp=moment - 4 * HOUR, event_type=EventType.RETURN.value),
        ]
    )
    await count_all(log)
    board = ActivityBoard(log)
    await board.look(moment)
    assert rows(board.activity(moment)) == {"mug": [30, 30, 30, 0, 0, 0, 0], "lamp": [0, 0, 1, 0, 1, 0, 1]}


async def test_what_is_counted_while_it_watches_shows_and_a_late_event_in_its_turn(log: EventLog) -> None:
    moment, board = now(), ActivityBoard(log)
    await board.look(moment)
    assert rows(board.activity(moment)) == {}
    await log.append([event(1, item_id="mug", timestamp=moment)])
    await log.append([event(2, item_id="late", timestamp=moment - 10 * HOUR)])
    await count_all(log)
    await board.look(moment)
    assert rows(board.activity(moment))["mug"][:3] == [1, 1, 1]
    for _ in range(LOOKS_AT_ALL):
        await board.look(moment)
    assert rows(board.activity(moment))["late"][:3] == [0, 0, 1]


async def test_what_has_left_a_window_counts_no_more(log: EventLog) -> None:
    moment, board = now(), ActivityBoard(log)
    await log.append([event(1, item_id="mug", timestamp=moment)])
    await count_all(log)
    await board.look(moment)
    later = moment + 2 * HOUR
    await board.look(later)
    assert rows(board.activity(later)) == {"mug": [0, 0, 1, 0, 0, 0, 0]}
    await board.look(moment + 25 * HOUR)
    assert rows(board.activity(moment + 25 * HOUR)) == {}


async def test_a_message_holds_the_items_that_were_met_most(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity_board, "MOST_ITEMS", 1)
    assert activity_message.MOST_ITEMS > 1
    moment, board = now(), ActivityBoard(log)
    await log.append([event(n, item_id="mug" if n else "lamp", timestamp=moment) for n in range(3)])
    await count_all(log)
    await board.look(moment)
    assert list(rows(board.activity(moment))) == ["mug"]


async def test_the_newest_message_is_read_by_who_asks(log: EventLog) -> None:
    assert await log.published_activity() is None
    await log.publish_activity(b"first")
    await log.publish_activity(b"second")
    assert await log.published_activity() == b"second"
