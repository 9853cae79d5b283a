"""GET /healthz and /readyz."""

import pytest

from feature_repo.settings import Settings
from tests.serving.conftest import Api, BreakableLog, running_api

pytestmark = pytest.mark.anyio


async def test_a_server_with_a_model_is_alive_and_ready(api: Api) -> None:
    assert (await api.client.get("/healthz")).json() == {"status": "ok"}
    response = await api.client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"ready": True, "model_version": "v1", "event_log": "available"}


async def test_a_server_without_a_model_is_alive_but_not_ready(
    api_settings: Settings, shop_log: BreakableLog
) -> None:
    async with running_api(api_settings, shop_log) as api:
        assert (await api.client.get("/healthz")).status_code == 200
        response = await api.client.get("/readyz")
        assert response.status_code == 503
        assert response.json() == {"ready": False, "model_version": None, "event_log": "available"}


async def test_without_the_event_log_a_server_stays_ready_and_says_so(
    api: Api, shop_log: BreakableLog
) -> None:
    shop_log.away = True
    response = await api.client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"ready": True, "model_version": "v1", "event_log": "unavailable"}


async def test_the_interactive_documentation_is_served(api: Api) -> None:
    assert "openapi.json" in (await api.client.get("/docs")).text
