"""POST /v1/recommendations: the right items, for the right reasons, whatever is away."""

import asyncio
import time

import numpy as np
import pytest

from feature_repo.batch_features import USER_STATISTICS
from feature_repo.event_log import Shopper
from feature_repo.online_user import OnlineUser
from feature_repo.schema import SECOND
from feature_repo.settings import Settings
from tests.serving.conftest import Api, BreakableLog, click, item_ids, running_api
from tests.tiny_bundle import CATEGORY_OF, NAMES, SOLD_OUT, TRAINED_AT, price_of, publish, tiny_bundle

pytestmark = pytest.mark.anyio

POPULAR = [name for name in NAMES if name != SOLD_OUT]


async def test_a_stranger_gets_what_is_popular(api: Api) -> None:
    reply = await api.recommend()
    assert item_ids(reply) == POPULAR
    assert [item["position"] for item in reply["items"]] == list(range(1, len(POPULAR) + 1))


async def test_a_click_changes_the_next_response(api: Api) -> None:
    assert item_ids(await api.recommend(visitor_id="vera", k=2)) == ["mug", "kettle"]
    await api.send(click("kettle"))
    assert item_ids(await api.recommend(visitor_id="vera", k=2)) == ["teapot", "mug"]
    await api.send(click("lamp"))
    assert item_ids(await api.recommend(visitor_id="vera", k=2)) == ["bulb", "shade"]
    assert item_ids(await api.recommend(visitor_id="somebody else", k=2)) == ["mug", "kettle"]


async def test_a_late_event_does_not_pass_for_the_newest(api: Api) -> None:
    now = time.time_ns() // 1000
    await api.send(click("lamp", timestamp=now))
    await api.send(click("kettle", timestamp=now - 60_000_000))
    assert item_ids(await api.recommend(visitor_id="vera", k=2)) == ["bulb", "shade"]


async def test_a_visitor_who_logged_in_is_met_with_all_they_did(api: Api) -> None:
    await api.send(click("kettle"))
    await api.send(click("lamp", user_id="ada"))
    reply = await api.recommend(visitor_id="vera")
    assert item_ids(reply)[:2] == ["bulb", "shade"]
    assert "kettle" in item_ids(reply)
    assert next(item for item in reply["items"] if item["item_id"] == "kettle")["sources"][0] == "revisits"


async def test_the_item_just_seen_comes_again_only_on_request(api: Api) -> None:
    await api.send(click("kettle"))
    assert "kettle" not in item_ids(await api.recommend(visitor_id="vera"))
    assert "kettle" in item_ids(await api.recommend(visitor_id="vera", repeat_last_item=True))


async def test_what_the_page_shows_steers_the_slate_and_stays_out_of_it(api: Api) -> None:
    reply = await api.recommend(context={"item_ids": ["lamp"], "cart": ["bulb"]})
    assert item_ids(reply)[0] == "shade"
    assert not {"lamp", "bulb"} & set(item_ids(reply))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"category": "home > kitchen"}, ["mug", "kettle", "teapot", "tray"]),
        ({"category": "home"}, ["mug", "kettle", "lamp", "teapot", "bulb", "shade", "tray"]),
        ({"category": "hom"}, []),
        ({"brands": ["fern"]}, ["kettle", "desk", "bulb", "shade"]),
        ({"min_price": price_of("chair")}, ["chair", "shade", "tray"]),
        ({"max_price": price_of("lamp"), "brands": ["fern", "brookside"]}, ["mug", "kettle", "lamp"]),
    ],
)
async def test_filters_leave_only_what_they_allow(
    api: Api, filters: dict[str, object], expected: list[str]
) -> None:
    assert item_ids(await api.recommend(filters=filters)) == expected


async def test_each_item_names_the_sources_that_brought_it(api: Api) -> None:
    await api.send(click("kettle"))
    reply = await api.recommend(visitor_id="vera")
    sources = {item["item_id"]: set(item["sources"]) for item in reply["items"]}
    near = {"covisitation", "last_item_covisitation"}
    assert near <= sources["teapot"]
    assert not near & sources["lamp"]
    assert all(sources.values())


async def test_each_item_tells_how_likely_it_is_taken_next_where_the_model_knows(api: Api) -> None:
    await api.send(click("kettle"))
    items = (await api.recommend(visitor_id="vera"))["items"]
    assert [item["click_probability"] for item in items] == pytest.approx(
        [np.interp(item["score"], [0, 200], [0, 0.5]) for item in items], rel=1e-5
    )
    assert {item["purchase_probability"] for item in items} == {None}


async def test_the_age_of_features_is_told(api: Api) -> None:
    now = time.time_ns() // 1000
    await api.send(click("kettle", timestamp=now - 5_000_000))
    age = (await api.recommend(visitor_id="vera"))["feature_age"]
    trained = (now - TRAINED_AT) / 1e6
    assert age["item"] == age["user"]
    assert trained <= age["item"] < trained + 60
    assert 5 <= age["session"] < 65
    assert (await api.recommend())["feature_age"]["session"] == 0


async def test_without_the_log_the_answer_comes_from_the_bundle(api: Api, shop_log: BreakableLog) -> None:
    await api.send(click("kettle"))
    shop_log.away = True
    reply = await api.recommend(visitor_id="vera", context={"item_ids": ["desk"]})
    assert reply["degraded"] == ["session_window"]
    assert item_ids(reply)[0] == "chair"
    shop_log.away = False
    reply = await api.recommend(visitor_id="vera")
    assert reply["degraded"] == []
    assert item_ids(reply)[0] == "teapot"


async def test_that_the_log_is_away_is_said_once_and_once_that_it_is_back(
    api: Api, shop_log: BreakableLog, caplog: pytest.LogCaptureFixture
) -> None:
    for away in (True, False):
        shop_log.away = away
        for _ in range(3):
            await api.recommend(visitor_id="vera")
            await api.recommend()
    said = [record.getMessage() for record in caplog.records if "event log" in record.getMessage()]
    assert said == [
        "the event log is away: events get 503, slates do without",
        "the event log is back",
    ]


async def test_a_log_that_hangs_is_not_waited_for(api_settings: Settings) -> None:
    class HangingLog(BreakableLog):
        async def shopper(self, user_id: str | None, visitor_id: str | None) -> Shopper:
            await asyncio.sleep(3600)
            raise AssertionError("nobody waits so long")

    impatient = api_settings.model_copy(update={"redis_timeout_seconds": 0.05})
    publish(impatient.models_dir, tiny_bundle())
    async with running_api(impatient, HangingLog(impatient)) as api:
        async with asyncio.timeout(5):
            reply = await api.recommend(visitor_id="vera")
        assert reply["degraded"] == ["session_window"]
        assert item_ids(reply) == POPULAR


async def test_before_the_first_model_one_is_told_to_train(
    api_settings: Settings, shop_log: BreakableLog
) -> None:
    async with running_api(api_settings, shop_log) as api:
        for response in (
            await api.client.post("/v1/recommendations", json={}),
            await api.client.get("/v1/items/kettle"),
        ):
            assert response.status_code == 503
            assert "freshet train" in response.json()["detail"]
            assert int(response.headers["Retry-After"]) >= 1
        await api.send(click("kettle"))


async def test_a_slate_is_no_longer_than_asked(api: Api) -> None:
    assert item_ids(await api.recommend(k=3)) == POPULAR[:3]


async def test_a_diverse_slate_turns_to_other_categories_sooner(api: Api) -> None:
    alike = item_ids(await api.recommend())
    diverse = item_ids(await api.recommend(diversity=1))
    assert item_ids(await api.recommend(diversity=0)) == alike
    assert sorted(diverse) == sorted(alike)
    assert diverse[0] == alike[0]
    kinds = [len({CATEGORY_OF[name] for name in slate[:3]}) for slate in (alike, diverse)]
    assert kinds == [2, 3]


async def test_every_request_has_an_id_of_its_own(api: Api) -> None:
    ids = {(await api.recommend())["request_id"] for _ in range(3)}
    assert {len(request_id) for request_id in ids} == {32}
    assert len(ids) == 3


async def test_the_age_of_user_features_is_that_of_what_was_last_brought_online(
    api: Api, shop_log: BreakableLog
) -> None:
    trained = (await api.recommend(user_id="ada"))["feature_age"]
    statistics = np.zeros(len(USER_STATISTICS), dtype=np.float32)
    computed_at = time.time_ns() // 1000 - 90 * SECOND
    shop_log.features["u:ada"] = OnlineUser(statistics, None, None, computed_at)
    for shopper in ({"user_id": "ada"}, {"user_id": "ada", "visitor_id": "vera"}):
        age = (await api.recommend(**shopper))["feature_age"]
        assert age["user"] == pytest.approx(90, abs=30)
        assert age["item"] >= trained["item"]


async def test_a_visitor_who_logged_in_has_the_features_of_the_user(api: Api, shop_log: BreakableLog) -> None:
    statistics = np.zeros(len(USER_STATISTICS), dtype=np.float32)
    shop_log.features["u:ada"] = OnlineUser(statistics, None, None, time.time_ns() // 1000)
    await api.send(click("lamp", user_id="ada"))
    assert (await api.recommend(visitor_id="vera"))["feature_age"]["user"] < 60
