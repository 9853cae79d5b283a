"""Page after page through the API, and what a reply tells of the rules that made it."""

import asyncio
from typing import Any

import pyarrow.parquet as pq
import pytest

from feature_repo.settings import Settings
from serving.reranking import PageToken
from serving.reranking.paging import MAX_SHOWN
from tests.serving.conftest import Api, click, item_ids
from tests.serving.shelf import shop_with_shelf
from tests.tiny_bundle import CATEGORY_OF, NAMES, SOLD_OUT, publish, tiny_bundle

pytestmark = pytest.mark.anyio

EVERYTHING = "  sources: everything\n"


async def pages(api: Api, **request: Any) -> list[list[str]]:
    """The items of every page, to the end."""
    reply = await api.recommend(**request)
    found = [item_ids(reply)]
    while reply["next_page"]:
        reply = await api.recommend(**request, page=reply["next_page"])
        found.append(item_ids(reply))
    return found


async def test_a_listing_shows_everything_once_and_ends(api: Api) -> None:
    found = await pages(api, visitor_id="vera", k=4)
    assert [len(page) for page in found] == [4, 4, 1]
    assert {item for page in found for item in page} == set(NAMES) - {SOLD_OUT}


async def test_a_listing_that_fits_its_page_has_no_next(api: Api) -> None:
    assert (await api.recommend(k=9))["next_page"] is None
    assert (await api.recommend(k=20))["next_page"] is None


async def test_the_next_page_repeats_nothing_of_another_model_and_counts_its_places_anew(api: Api) -> None:
    first = await api.recommend(k=3)
    publish(api.service.settings.models_dir, tiny_bundle("v2"))
    async with asyncio.timeout(20):
        while api.service.model.version != "v2":
            await asyncio.sleep(0.005)
    second = await api.recommend(k=20, page=first["next_page"])
    assert (first["model_version"], second["model_version"]) == ("v1", "v2")
    assert {*item_ids(first), *item_ids(second)} == set(NAMES) - {SOLD_OUT}
    assert not set(item_ids(first)) & set(item_ids(second))
    assert [item["position"] for item in second["items"]] == list(range(1, 7))


async def test_events_between_two_pages_change_the_next_and_repeat_nothing(api: Api) -> None:
    first = await api.recommend(visitor_id="vera", k=2)
    assert item_ids(first) == ["mug", "kettle"]
    await api.send(click("lamp"))
    second = await api.recommend(visitor_id="vera", k=2, page=first["next_page"])
    assert item_ids(second) == ["bulb", "shade"]


@pytest.mark.parametrize("page", ["", "A", "not a token", 7, ["x"], PageToken("v1", ("a",)).encode() + "A"])
async def test_a_token_that_is_none_is_refused_and_says_what_to_do(api: Api, page: Any) -> None:
    response = await api.client.post("/v1/recommendations", json={"page": page})
    assert response.status_code == 422
    [problem] = response.json()["detail"]
    assert problem["field"] == "page"
    assert "page token" in problem["message"]


async def test_a_listing_ends_where_a_token_can_hold_no_more(api: Api) -> None:
    almost = PageToken("v0", tuple(f"gone-{number}" for number in range(MAX_SHOWN - 3)))
    assert (await api.recommend(k=2, page=almost.encode()))["next_page"]
    assert (await api.recommend(k=3, page=almost.encode()))["next_page"] is None


async def test_items_that_the_caller_brings_come_on_one_page(api: Api) -> None:
    reply = await api.client.post("/v1/rerank", json={"items": ["desk", "mug"]})
    assert reply.json()["next_page"] is None


async def test_a_reply_tells_what_was_pinned_and_which_pin_is_missing(api_settings: Settings) -> None:
    pinned = f"{EVERYTHING}  pin: {{shade: 2, {SOLD_OUT}: 3}}\n"
    async with shop_with_shelf(api_settings, pinned) as api:
        reply = await api.recommend(placement="shelf", k=3, explain=True)
        assert [item["placed_by"] for item in reply["items"]] == [None, "pin", None]
        assert item_ids(reply) == ["mug", "shade", "kettle"]
        assert reply["items"][1]["explanation"]["reason"] == "chosen by the shop"
        assert reply["relaxed"] == ["pin"]
        following = await api.recommend(placement="shelf", k=3, page=reply["next_page"])
        assert following["relaxed"] == []


async def test_what_was_drawn_is_told_and_logged_with_its_chance(api_settings: Settings) -> None:
    drawn = f"{EVERYTHING}  explore: {{slots: [1], newer_than_days: 100000, temperature: 1000000}}\n"
    async with shop_with_shelf(api_settings, drawn) as api:
        reply = await api.recommend(placement="shelf", k=3, explain=True)
        first, *others = reply["items"]
        assert (first["placed_by"], first["explanation"]["reason"]) == ("explore", "new in the shop")
        assert first["propensity"] == pytest.approx(1 / 9, rel=1e-3)
        assert [item["propensity"] for item in others] == [1, 1]
        again = [(await api.recommend(placement="shelf", k=1))["items"][0]["item_id"] for _ in range(20)]
        assert len(set(again)) > 1
    files = api_settings.served_dir.glob("items/date=*/*.parquet")
    rows = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    logged = [row for row in rows if row["request_id"] == reply["request_id"]]
    told = [(item["item_id"], item["propensity"], item["placed_by"]) for item in reply["items"]]
    assert [(row["item_id"], row["propensity"], row["placed_by"]) for row in logged] == told


async def test_what_was_shown_and_not_clicked_gives_way_until_it_is_clicked(api_settings: Settings) -> None:
    tired = f"{EVERYTHING}  fatigue: {{weight: 1, half_life_hours: 24}}\n"
    impression = {"event_type": "impression", "visitor_id": "vera"}
    async with shop_with_shelf(api_settings, tired) as api:
        await api.send({**impression, "item_id": "mug"}, {**impression, "item_id": "kettle"})
        assert item_ids(await api.recommend(visitor_id="vera", placement="shelf", k=1)) == ["lamp"]
        assert item_ids(await api.recommend(visitor_id="vera", placement="home", k=1)) == ["mug"]
        assert item_ids(await api.recommend(visitor_id="else", placement="shelf", k=1)) == ["mug"]
        await api.send(click("mug"))
        await api.send(click("desk"))  # else the mug, just seen, is left out
        following = await api.recommend(visitor_id="vera", placement="shelf", k=2)
        assert item_ids(following) == ["chair", "mug"]


async def test_a_filter_of_the_placement_and_one_of_the_request_both_hold(api_settings: Settings) -> None:
    filtered = f"{EVERYTHING}  filter: {{categories: [home], max_price: 50}}\n"
    async with shop_with_shelf(api_settings, filtered) as api:
        reply = await api.recommend(placement="shelf", filters={"min_price": 20})
        assert item_ids(reply) == ["kettle", "lamp", "teapot"]


async def test_a_boost_turns_the_slate_and_leaves_the_score_that_is_told(api_settings: Settings) -> None:
    async with shop_with_shelf(
        api_settings, f"{EVERYTHING}  boost:\n    - {{factor: 1000, categories: [office]}}\n"
    ) as api:
        slate, plain = await api.recommend(placement="shelf", k=9), await api.recommend(k=9)
        office = [item for item in NAMES if CATEGORY_OF[item] == 2 and item != SOLD_OUT]
        assert item_ids(slate)[0] == office[0]
        assert {item["item_id"]: item["score"] for item in slate["items"]} == {
            item["item_id"]: item["score"] for item in plain["items"]
        }
