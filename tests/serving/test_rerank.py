"""The caller's own items, ordered for a shopper."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from serving.query import Query
from serving.recommender import Recommender
from tests.serving.conftest import Api, click, item_ids
from tests.serving.tiny_shopper import TINY, shopper
from tests.tiny_bundle import NAMES, SOLD_OUT, codes

pytestmark = pytest.mark.anyio


async def reranked(api: Api, *items: str, **request: Any) -> list[dict[str, Any]]:
    response = await api.client.post("/v1/rerank", json={"items": items, **request})
    assert response.status_code == 200, response.text
    return response.json()["items"]


async def test_items_are_ordered_for_the_shopper(api: Api) -> None:
    await api.send(click("lamp"))
    slate = await reranked(api, "mug", "bulb", "shade", visitor_id="vera")
    assert [item["item_id"] for item in slate] == ["bulb", "shade", "mug"]
    assert [item["position"] for item in slate] == [1, 2, 3]


async def test_every_item_comes_once_also_what_is_sold_out_or_was_just_seen_and_the_unknown_last(
    api: Api,
) -> None:
    await api.send(click("lamp"))
    slate = await reranked(api, "unheard-of", "lamp", SOLD_OUT, "lamp", "unseen", visitor_id="vera")
    assert {item["item_id"] for item in slate[:2]} == {"lamp", SOLD_OUT}
    assert [(item["item_id"], item["sources"]) for item in slate[2:]] == [("unheard-of", []), ("unseen", [])]
    scores = [item["score"] for item in slate]
    assert scores == sorted(scores, reverse=True)


async def test_items_of_which_none_is_known_come_as_they_were_sent(api: Api) -> None:
    assert [item["item_id"] for item in await reranked(api, "b", "a")] == ["b", "a"]


@pytest.mark.parametrize("body", [{}, {"items": []}, {"items": ["a"] * 501}, {"items": ["a"], "k": 3}])
async def test_a_bad_request_is_refused(api: Api, body: dict[str, Any]) -> None:
    assert (await api.client.post("/v1/rerank", json=body)).status_code == 422


@given(
    st.lists(st.sampled_from(NAMES), min_size=1, unique=True), st.lists(st.sampled_from(NAMES), max_size=5)
)
@hypothesis_settings(deadline=None, max_examples=50)
def test_no_item_is_lost_whoever_asks(items: list[str], history: list[str]) -> None:
    query = Query(shopper(*history), k=len(items), given=codes(sorted(items, key=NAMES.index)))
    [slate] = Recommender(TINY, 3).recommend([query])
    assert sorted(slate.items.tolist()) == sorted(NAMES.index(item) for item in items)


async def test_the_order_is_that_of_the_same_items_in_a_slate(api: Api) -> None:
    await api.send(click("kettle"))
    slate = item_ids(await api.recommend(visitor_id="vera", k=8))
    given_items = await reranked(api, *sorted(slate), visitor_id="vera")
    assert [item["item_id"] for item in given_items][:3] == slate[:3]
