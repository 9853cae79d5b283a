"""Every item of a slate has a reason that holds."""

from typing import Any

import numpy as np
import pytest

from feature_repo.ranking_features import RANKING_COLUMNS
from serving.explanation import explain
from serving.plan import Plan, Share
from serving.query import Query
from serving.recommender import Recommender
from tests.serving.conftest import Api, click
from tests.serving.tiny_shopper import TINY, shopper
from tests.tiny_bundle import NAMES

pytestmark = pytest.mark.anyio


async def reasons(api: Api, **request: Any) -> dict[str, tuple[str, str | None]]:
    """Reason of each item of a visitor's slate, and what it rests on."""
    slate = await api.recommend(visitor_id="vera", explain=True, **request)
    return {
        item["item_id"]: (item["explanation"]["reason"], item["explanation"]["because_of"])
        for item in slate["items"]
    }


async def test_a_stranger_is_told_what_is_popular_or_on_the_rise(api: Api) -> None:
    told = await reasons(api, k=10)
    assert told["mug"] == ("popular in the shop", None)
    assert told["tray"] == ("on the rise in the shop", None)


async def test_who_viewed_something_is_told_because_of_what(api: Api) -> None:
    await api.send(click("desk", event_type="view"))
    reason, because_of = (await reasons(api, k=10))["chair"]
    assert because_of == "desk"
    assert reason.startswith("because you viewed ")
    await api.send(click("desk", event_type="purchase"))
    assert (await reasons(api, k=10))["chair"][0].startswith("because you bought ")


async def test_complements_go_with_the_page_and_what_is_found_fits_the_search(api: Api) -> None:
    told = await reasons(api, placement="complements", context={"item_ids": ["lamp"]}, k=1)
    assert told["bulb"][0].startswith("goes with ")
    assert told["bulb"][1] == "lamp"
    found = await reasons(api, placement="search", context={"query": "lamp"}, k=1)
    assert found["lamp"] == ("fits the search", None)


async def test_what_the_shopper_met_before_is_told_so(api: Api) -> None:
    await api.send(click("desk"))
    await api.send(click("mug"))
    assert (await reasons(api, k=10))["desk"][0] == "you were interested in it before"


async def test_without_being_asked_nothing_is_explained(api: Api) -> None:
    assert (await api.recommend(k=1))["items"][0]["explanation"] is None


def test_contributions_are_of_the_features_as_they_were_and_tell_the_scores_apart() -> None:
    query = Query(shopper("desk", "lamp"), k=5)
    [slate] = Recommender(TINY, 10).recommend([query])
    rows = [slate.candidates.items.tolist().index(item) for item in slate.items.tolist()]
    told = explain(TINY, query, slate)
    for row, one in zip(rows, told, strict=True):
        for named in one.contributions:
            value = slate.features[row, RANKING_COLUMNS.index(named.feature)]
            assert named.value == pytest.approx(float(value), nan_ok=True)
        sizes = [abs(named.contribution) for named in one.contributions]
        assert sizes == sorted(sizes, reverse=True)
    sums = np.array([sum(named.contribution for named in one.contributions) for one in told])
    np.testing.assert_allclose(sums - sums[0], slate.scores - slate.scores[0], atol=1e-4)


def test_what_fills_a_slate_up_is_popular() -> None:
    only_trending = Plan({"trending": Share(1, 1.0)})
    query = Query(shopper(), k=3, plan=only_trending)
    [slate] = Recommender(TINY, 10).recommend([query])
    told = explain(TINY, query, slate)
    assert [one.reason.text for one in told[1:]] == ["popular in the shop"] * 2
    assert told[1].contributions == []
    assert {NAMES[item] for item in slate.items} >= {"mug"}


async def test_what_the_rankers_did_not_order_has_no_contributions_of_theirs(api: Api) -> None:
    page = {"item_ids": ["kettle"]}
    by_sources = await api.recommend(placement="substitutes", context=page, explain=True, k=2)
    assert by_sources["ranked_by"] == "sources"
    assert by_sources["items"]
    for item in by_sources["items"]:
        assert item["explanation"]["reason"]
        assert item["explanation"]["contributions"] == []
