"""GET /v1/items/{item_id}."""

import pytest

from feature_repo.schema import ITEM_SCHEMA
from feature_repo.settings import Settings
from serving.replies import CatalogItem
from tests.serving.conftest import Api, BreakableLog, running_api
from tests.tiny_bundle import publish, tiny_bundle

pytestmark = pytest.mark.anyio


async def test_an_item_comes_with_its_row_of_the_catalog(api: Api) -> None:
    response = await api.client.get("/v1/items/kettle")
    assert response.status_code == 200
    assert response.json() == {
        "item_id": "kettle",
        "title": "Kettle",
        "category": "home > kitchen",
        "brand": "fern",
        "price": 20.0,
        "available": True,
        "created_at": None,
        "description": None,
        "tags": None,
        "margin": None,
        "image_embedding": None,
        "properties": {"rank": 1},
    }


@pytest.mark.parametrize("path", ["nothing", "", "a/b", "%00", "%F0%9F%A7%B6", "x" * 10_000])
async def test_an_item_the_shop_has_not_is_not_found(api: Api, path: str) -> None:
    response = await api.client.get(f"/v1/items/{path}")
    assert response.status_code == 404
    assert response.json() == {"detail": "the catalog of model v1 has no such item"}


async def test_an_id_with_a_slash_can_be_asked_for(api_settings: Settings, shop_log: BreakableLog) -> None:
    bundle = tiny_bundle(prefix="sku/")
    publish(api_settings.models_dir, bundle)
    async with running_api(api_settings, shop_log) as api:
        for path in ("sku/kettle", "sku%2Fkettle"):
            assert (await api.client.get(f"/v1/items/{path}")).json()["title"] == "Kettle"


def test_the_reply_has_the_columns_of_the_catalog() -> None:
    assert list(CatalogItem.model_fields) == ITEM_SCHEMA.names
