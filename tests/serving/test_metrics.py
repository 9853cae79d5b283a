"""GET /metrics: what happened can be counted."""

import pytest

from feature_repo.ranking_features import SOURCES
from serving.metrics import STAGES, Metrics
from tests.serving.conftest import Api, BreakableLog, click

pytestmark = pytest.mark.anyio


async def test_requests_are_timed_by_route_and_status(api: Api) -> None:
    await api.client.get("/v1/items/kettle")
    await api.client.get("/v1/items/nothing")
    await api.client.get("/nowhere")
    await api.client.post("/v1/events", content=b"x" * 3_000_000)
    count = "freshet_request_seconds_count"
    assert await api.metric(f'{count}{{route="/v1/items/{{item_id}}",status="200"}}') == 1
    assert await api.metric(f'{count}{{route="/v1/items/{{item_id}}",status="404"}}') == 1
    assert await api.metric(f'{count}{{route="unmatched",status="404"}}') == 1
    assert await api.metric(f'{count}{{route="unmatched",status="413"}}') == 1


async def test_each_stage_of_a_recommendation_is_timed_once(api: Api) -> None:
    await api.recommend()
    for stage in STAGES:
        assert await api.metric(f'freshet_stage_seconds_count{{stage="{stage}"}}') == 1


async def test_candidates_are_counted_by_the_source_that_brought_them(api: Api) -> None:
    await api.recommend()
    found = {source: await api.metric(f'freshet_candidates_total{{source="{source}"}}') for source in SOURCES}
    assert found == dict.fromkeys(SOURCES, 0) | {"popular": 9, "trending": 2}  # the tenth is sold out


async def test_events_are_counted_by_type_and_verdict(api: Api) -> None:
    await api.send(click("kettle", event_id="a"), click("lamp"), click("kettle", event_id="a"))
    sample = 'freshet_events_total{{event_type="click",verdict="{}"}}'
    assert await api.metric(sample.format("accepted")) == 2
    assert await api.metric(sample.format("duplicate")) == 1


async def test_degraded_answers_are_counted(api: Api, shop_log: BreakableLog) -> None:
    shop_log.away = True
    await api.recommend(visitor_id="vera")
    assert await api.metric('freshet_degraded_total{what="session_window"}') == 1


async def test_the_live_model_and_the_age_of_its_features_are_told(api: Api) -> None:
    assert await api.metric('freshet_model_info{git_revision="unknown",version="v1"}') == 1
    year = 365 * 86_400
    assert 0.3 * year < await api.metric('freshet_feature_age_seconds{family="item"}') < 100 * year


async def test_two_apps_count_apart(api: Api) -> None:
    await api.recommend()
    assert b'freshet_stage_seconds_count{stage="rank"} 0.0' in Metrics().render()
