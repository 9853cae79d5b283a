"""What answers a body is written as it was made; that it is what the document promises is proved here."""

import json
from typing import Any

import pytest
from fastapi import APIRouter
from httpx import Response
from pydantic import BaseModel, TypeAdapter

from serving.json_route import JsonRoute
from serving.replies import ChangedItems, EventResults, Recommendations
from tests.serving.conftest import Api, click


class Body(BaseModel):
    """Anything."""


def promised(response: Response, kind: type) -> Any:
    """The reply, once it has been found to have the fields of its kind, each of its type, and no others."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    read = adapter.validate_json(response.content, strict=True)
    assert json.loads(adapter.dump_json(read)) == response.json()
    return read


@pytest.mark.anyio
@pytest.mark.parametrize("asked", [{}, {"visitor_id": "vera", "k": 2, "explain": True}, {"k": 1}])
async def test_a_slate_is_what_the_document_promises(api: Api, asked: dict[str, Any]) -> None:
    await api.send(click("kettle"))
    slate = promised(await api.client.post("/v1/recommendations", json=asked), Recommendations)
    assert slate.items
    assert all((item.explanation is not None) == ("explain" in asked) for item in slate.items)


@pytest.mark.anyio
async def test_a_reranked_list_is_what_the_document_promises(api: Api) -> None:
    asked = {"items": ["mug", "a stranger", "kettle"], "visitor_id": "vera"}
    ordered = promised(await api.client.post("/v1/rerank", json=asked), Recommendations)
    assert ordered.items[-1].item_id == "a stranger"


@pytest.mark.anyio
async def test_what_becomes_of_events_is_what_the_document_promises(api: Api) -> None:
    asked = {"events": [click("kettle"), click("lamp")]}
    assert len(promised(await api.client.post("/v1/events", json=asked), EventResults).events) == 2


@pytest.mark.anyio
async def test_what_becomes_of_items_is_what_the_document_promises(api: Api) -> None:
    asked = {"items": [{"item_id": "mug", "price": 3.0}]}
    assert promised(await api.client.patch("/v1/items", json=asked), ChangedItems).items == 1


def test_a_route_that_takes_a_body_takes_nothing_else() -> None:
    router = APIRouter(route_class=JsonRoute)

    async def endpoint(body: Body, number: int) -> None: ...

    with pytest.raises(TypeError, match="/both takes more than a body"):
        router.post("/both")(endpoint)
