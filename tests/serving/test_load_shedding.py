"""When the event log is nearly full, what matters least is not taken; everything else is."""

import pytest
from redis import Redis

from feature_repo.redis_event_log import RedisEventLog
from feature_repo.schema import Event, EventType
from feature_repo.settings import Settings
from serving.load_shedding import SHED_ABOVE
from tests.serving.conftest import Api, BreakableLog, logged

pytestmark = pytest.mark.anyio

EVENTS = [
    {Event.TYPE: kind.value, Event.VISITOR: "vera", Event.ITEM: "kettle"}
    for kind in (EventType.IMPRESSION, EventType.VIEW, EventType.CLICK, EventType.PURCHASE)
]


class NearlyFull(BreakableLog):
    """A log that is as full as the test says."""

    full = 0.0

    async def fullness(self) -> float:
        self._fail_if_away()
        return self.full


@pytest.fixture
def shop_log(api_settings: Settings) -> NearlyFull:
    return NearlyFull(api_settings)


@pytest.mark.parametrize(
    ("full", "shed"),
    [
        (0.0, []),
        (0.8, []),
        (0.81, ["impression"]),
        (0.95, ["impression", "view"]),
        (1.01, ["impression", "view"]),
    ],
)
async def test_the_fuller_the_log_the_less_is_taken_and_never_less_than_what_a_shopper_decided(
    api: Api, shop_log: NearlyFull, full: float, shed: list[str]
) -> None:
    shop_log.full = full
    await api.service.load_shedding.look()
    reply = await api.send(*EVENTS)
    kinds = [event[Event.TYPE] for event in EVENTS]
    expected = ["shed" if kind in shed else "accepted" for kind in kinds]
    assert [event["verdict"] for event in reply["events"]] == expected
    assert sorted(event.event_type for event in await logged(shop_log)) == sorted(set(kinds) - set(shed))
    for kind in kinds:
        counted = await api.metric(f'freshet_events_total{{event_type="{kind}",verdict="shed"}}')
        assert counted == (kind in shed)


async def test_what_was_shed_is_taken_again_when_there_is_room_or_the_log_is_back(
    api: Api, shop_log: NearlyFull
) -> None:
    for relief in ("room", "away"):
        shop_log.full = 1.0
        await api.service.load_shedding.look()
        assert {event["verdict"] for event in (await api.send(EVENTS[0]))["events"]} == {"shed"}
        shop_log.full = 0.1 if relief == "room" else 1.0
        shop_log.away = relief == "away"
        await api.service.load_shedding.look()
        shop_log.away = False
        assert {event["verdict"] for event in (await api.send(EVENTS[0]))["events"]} == {"accepted"}


def test_impressions_go_first() -> None:
    assert min(SHED_ABOVE, key=lambda kind: SHED_ABOVE[kind]) == EventType.IMPRESSION
    assert max(SHED_ABOVE.values()) < 1


@pytest.mark.integration
async def test_redis_tells_how_much_of_its_limit_is_taken(
    clean_redis: Redis, redis_url: str, settings: Settings
) -> None:
    log = RedisEventLog.connect(redis_url, settings)
    assert await log.fullness() == 0
    used: int = clean_redis.info("memory")["used_memory"]  # type: ignore[index]
    clean_redis.config_set("maxmemory", 4 * used)
    try:
        assert 0.2 < await log.fullness() < 0.5
    finally:
        clean_redis.config_set("maxmemory", 0)
    await log.aclose()
