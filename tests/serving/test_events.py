"""POST /v1/events: what is taken, and what it becomes."""

import time
from dataclasses import fields

import pytest

from feature_repo.events import LoggedEvent
from feature_repo.schema import Event
from serving.received import ReceivedEvent
from tests.serving.conftest import Api, BreakableLog, Fields, click, logged

pytestmark = pytest.mark.anyio


def now() -> int:
    return time.time_ns() // 1000


async def test_an_event_is_logged_with_every_field_it_came_with(api: Api, shop_log: BreakableLog) -> None:
    moment = now() - 1_000_000
    sent: Fields = {
        "event_id": "e1",
        "event_type": "purchase",
        "user_id": "ada",
        "visitor_id": "vera",
        "item_id": "kettle",
        "timestamp": moment,
        "session_id": "s",
        "placement": "home",
        "request_id": "r",
        "position": 3,
        "query": "tea",
        "quantity": 2,
        "price": 20.5,
        "value": 4.5,
        "campaign_id": "spring",
        "properties": {"colour": "blue", "sizes": [1, 2]},
    }
    before = now()
    assert await api.send(sent) == {"events": [{"event_id": "e1", "verdict": "accepted"}]}
    [event] = await logged(shop_log)
    assert before <= event.arrival_time <= now()
    kept = sent | {"properties": '{"colour":"blue","sizes":[1,2]}', "arrival_time": event.arrival_time}
    assert event == LoggedEvent(**kept)


def test_every_column_of_the_log_but_the_arrival_can_be_sent() -> None:
    assert set(ReceivedEvent.model_fields) == {field.name for field in fields(LoggedEvent)} - {Event.ARRIVAL}


async def test_an_event_sent_twice_is_a_duplicate_and_logged_once(api: Api, shop_log: BreakableLog) -> None:
    event = click("kettle", event_id="e1")
    await api.send(event)
    assert await api.send(event, click("lamp", event_id="e2")) == {
        "events": [{"event_id": "e1", "verdict": "duplicate"}, {"event_id": "e2", "verdict": "accepted"}]
    }
    assert [event.event_id for event in await logged(shop_log)] == ["e1", "e2"]


async def test_an_event_without_an_id_gets_one_that_is_told(api: Api, shop_log: BreakableLog) -> None:
    reply = await api.send(click("kettle"), click("kettle"))
    told = sorted(result["event_id"] for result in reply["events"])
    assert told == [event.event_id for event in await logged(shop_log)]
    assert told[0] != told[1]


async def test_an_event_without_a_time_happened_when_it_arrived(api: Api, shop_log: BreakableLog) -> None:
    await api.send(click("kettle"))
    [event] = await logged(shop_log)
    assert event.timestamp == event.arrival_time


@pytest.mark.parametrize("offset", ["Z", "+00:00", "+05:30"])
async def test_a_time_may_be_iso_8601_with_any_offset(api: Api, shop_log: BreakableLog, offset: str) -> None:
    shift = 19_800 if offset == "+05:30" else 0
    whole = now() // 1_000_000 - 60
    local = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole + shift))
    await api.send(click("kettle", timestamp=f"{local}.000007{offset}"))
    [event] = await logged(shop_log)
    assert event.timestamp == whole * 1_000_000 + 7


async def test_an_event_a_minute_ahead_or_a_year_old_is_taken(api: Api, shop_log: BreakableLog) -> None:
    minute, year = 60_000_000, 365 * 86_400_000_000
    await api.send(
        click("kettle", event_id="ahead", timestamp=now() + minute),
        click("kettle", event_id="old", timestamp=now() - year),
    )
    assert [event.event_id for event in await logged(shop_log)] == ["ahead", "old"]


@pytest.mark.parametrize(
    "item_id",
    [
        "'; DROP TABLE events; --",
        "{13}:log",
        "*1 $8 FLUSHALL",
        "../../etc/passwd",
        "\u202e\U0001f9f6 <script>",
    ],
)
async def test_an_id_of_odd_but_printable_text_is_stored_as_it_came(
    api: Api, shop_log: BreakableLog, item_id: str
) -> None:
    await api.send(click(item_id, event_id=item_id, visitor_id=item_id))
    [event] = await logged(shop_log)
    assert (event.event_id, event.visitor_id, event.item_id) == (item_id, item_id, item_id)


async def test_a_full_batch_is_taken(api: Api, shop_log: BreakableLog) -> None:
    reply = await api.send(*(click("kettle", event_id=f"{n:04}") for n in range(1000)))
    assert {result["verdict"] for result in reply["events"]} == {"accepted"}
    assert [event.event_id for event in await logged(shop_log)] == [f"{n:04}" for n in range(1000)]


async def test_without_the_log_the_sender_is_told_when_to_try_again(api: Api, shop_log: BreakableLog) -> None:
    shop_log.away = True
    response = await api.client.post("/v1/events", json={"events": [click("kettle")]})
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert "cannot be reached" in response.json()["detail"]
    shop_log.away = False
    await api.send(click("kettle", event_id="again"))
    assert [event.event_id for event in await logged(shop_log)] == ["again"]
