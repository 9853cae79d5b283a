"""Who is let in: every route with every scope, keys that go, rates, and what stays open."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from httpx import Response
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Message, Receive, Scope, Send

from feature_repo.memory_event_log import MemoryEventLog
from feature_repo.settings import Settings
from serving.access.admission import OPEN, SECURITY_SCHEME, Admission, needed_scope
from serving.access.api_keys import KeyScope, add_key, remove_key
from serving.access.live_keys import KEYS_SECONDS, LiveKeys
from serving.access.work_limit import WorkLimit
from serving.app import create_app
from serving.metrics import Metrics
from tests.serving.conftest import Api, BreakableLog, running_api

pytestmark = pytest.mark.anyio

logger = logging.getLogger(__name__)

DOCUMENTATION = {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}
HEALTH = {"/healthz", "/readyz"}
NEEDED = {
    ("POST", "/v1/events"): KeyScope.WRITE,
    ("PUT", "/v1/items"): KeyScope.WRITE,
    ("PATCH", "/v1/items"): KeyScope.WRITE,
    ("POST", "/v1/recommendations"): KeyScope.READ,
    ("POST", "/v1/rerank"): KeyScope.READ,
    ("GET", "/v1/items/{item_id:path}"): KeyScope.READ,
    ("DELETE", "/v1/users/{user_id:path}"): KeyScope.ADMIN,
    ("DELETE", "/v1/visitors/{visitor_id:path}"): KeyScope.ADMIN,
    ("GET", "/v1/requests/{request_id}"): KeyScope.ADMIN,
    ("GET", "/metrics"): KeyScope.METRICS,
}


@asynccontextmanager
async def api_of(settings: Settings, log: MemoryEventLog) -> AsyncIterator[Api]:
    """A server without a model: what is let in gets 503 or 422, what is not gets 401 or 403."""
    async with running_api(settings, log) as api:
        yield api


async def ask(api: Api, route: tuple[str, str], authorization: bytes = b"") -> Response:
    """A request without a body, so that it changes nothing."""
    method, path = route
    headers = {b"Authorization": authorization} if authorization else {}
    return await api.client.request(method, re.sub(r"\{.*\}", "x", path), headers=headers)


def bearer(secret: str) -> bytes:
    return f"Bearer {secret}".encode()


SCRAPE = ("GET", "/metrics")


def test_every_route_says_what_it_needs(settings: Settings) -> None:
    everything = create_app(settings, MemoryEventLog(settings)).routes
    api = [route for route in everything if isinstance(route, APIRoute)]
    declared = {(method, route.path): needed_scope(route) for route in api for method in route.methods}
    assert {path for (_, path), scope in declared.items() if scope is None} == HEALTH
    assert {route: scope for route, scope in declared.items() if scope} == NEEDED
    others: list[Any] = [route for route in everything if route not in api]
    assert {route.path for route in others} == DOCUMENTATION


def test_a_route_that_says_nothing_stops_the_server(settings: Settings) -> None:
    router = APIRouter()
    router.add_api_route("/v1/new", lambda: None)
    metrics = Metrics()
    with pytest.raises(ValueError, match="/v1/new says neither which scope it needs nor that it is open"):
        Admission(LiveKeys(settings), WorkLimit(1, metrics), metrics).guard(router.routes)


@pytest.mark.parametrize("route", NEEDED)
async def test_a_route_takes_keys_of_its_scope_and_no_other(
    api_settings: Settings, shop_log: BreakableLog, route: tuple[str, str]
) -> None:
    secrets = {scope: add_key(api_settings.api_keys_path, scope, [scope], None) for scope in KeyScope}
    needed = NEEDED[route]
    async with api_of(api_settings, shop_log) as api:
        for scope, secret in secrets.items():
            reply = await ask(api, route, bearer(secret))
            if scope == needed:
                assert reply.status_code not in {401, 403}
            else:
                assert reply.status_code == 403
                assert reply.json() == {
                    "detail": f"the API key {scope} lacks the scope {needed}: use a key that has it"
                }


@pytest.mark.parametrize("route", NEEDED)
@pytest.mark.parametrize(
    ("authorization", "says"),
    [
        (b"", "this needs an API key: send it as Authorization: Bearer KEY"),
        (b"Bearer", "this needs an API key"),
        (b"Basic c2hvcDpzaG9w", "this needs an API key"),
        (b"Bearer freshet_wrong", "this API key is unknown"),
        (b"Bearer \xff", "this API key is unknown"),
    ],
)
async def test_without_a_known_key_there_is_no_answer(
    api_settings: Settings, route: tuple[str, str], authorization: bytes, says: str
) -> None:
    add_key(api_settings.api_keys_path, "shop", list(KeyScope), None)
    async with api_of(api_settings, MemoryEventLog(api_settings)) as api:
        reply = await ask(api, route, authorization)
        assert reply.status_code == 401
        assert reply.headers["WWW-Authenticate"] == "Bearer"
        assert reply.json()["detail"].startswith(says)
        assert "wrong" not in reply.text


@pytest.mark.parametrize("path", sorted(HEALTH | DOCUMENTATION))
async def test_health_and_documentation_are_open(
    api_settings: Settings, shop_log: BreakableLog, path: str
) -> None:
    closed = api_settings.model_copy(update={"api_keys_required": True})
    async with api_of(closed, shop_log) as api:
        assert (await ask(api, ("GET", path))).status_code == (503 if path == "/readyz" else 200)
        assert (await ask(api, SCRAPE)).status_code == 401


async def test_nothing_of_a_body_is_read_before_its_sender_is_known(
    api_settings: Settings, shop_log: BreakableLog
) -> None:
    add_key(api_settings.api_keys_path, "shop", [KeyScope.WRITE], None)

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async with api_of(api_settings, shop_log) as api:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/events",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }
        await api.app(scope, receive, send)
        assert sent[0]["status"] == 401


async def test_servers_follow_the_file_within_seconds(api_settings: Settings, shop_log: BreakableLog) -> None:
    path = api_settings.api_keys_path
    async with api_of(api_settings, shop_log) as api:

        async def becomes(status: int, secret: str) -> None:
            deadline = time.monotonic() + 5 * KEYS_SECONDS
            while (await ask(api, SCRAPE, bearer(secret))).status_code != status:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)

        await becomes(200, "any, while there is none")
        secret = add_key(path, "prometheus", [KeyScope.METRICS], None)
        await becomes(401, "any")
        await becomes(200, secret)
        remove_key(path, "prometheus")
        await becomes(401, secret)


async def test_a_key_above_its_rate_is_told_when_to_come_back_and_others_are_not(
    api_settings: Settings, shop_log: BreakableLog
) -> None:
    path = api_settings.api_keys_path
    slow = bearer(add_key(path, "slow", [KeyScope.METRICS], 0.001))
    free = bearer(add_key(path, "free", [KeyScope.METRICS], None))
    async with api_of(api_settings, shop_log) as api:
        replies = [await ask(api, SCRAPE, slow) for _ in range(3)]
        assert [reply.status_code for reply in replies] == [200, 429, 429]
        assert 990 <= int(replies[2].headers["Retry-After"]) <= 1000
        assert replies[2].json() == {
            "detail": "the API key slow has 0.001 requests a second: try again after Retry-After"
        }
        for _ in range(5):
            assert (await ask(api, SCRAPE, free)).status_code == 200
        counted = (await ask(api, SCRAPE, free)).text
        assert 'freshet_turned_away_total{why="rate"} 2.0' in counted
        assert 'freshet_request_seconds_count{route="/metrics",status="429"} 2.0' in counted


async def test_what_was_refused_for_its_scope_costs_no_token(
    api_settings: Settings, shop_log: BreakableLog
) -> None:
    key = bearer(add_key(api_settings.api_keys_path, "slow", [KeyScope.METRICS], 0.001))
    async with api_of(api_settings, shop_log) as api:
        assert (await ask(api, ("DELETE", "/v1/users/ann"), key)).status_code == 403
        assert (await ask(api, SCRAPE, key)).status_code == 200


def test_the_document_says_which_scope_each_endpoint_needs(settings: Settings) -> None:
    document = create_app(settings, MemoryEventLog(settings)).openapi()
    assert document["components"]["securitySchemes"] == {
        SECURITY_SCHEME: {"type": "http", "scheme": "bearer"}
    }
    for (method, path), scope in NEEDED.items():
        operation = document["paths"][path.replace(":path", "")][method.lower()]
        assert operation["security"] == [{SECURITY_SCHEME: [scope]}]
        assert {"401", "403", "429"} <= set(operation["responses"])
    for path in HEALTH:
        assert document["paths"][path]["get"]["security"] == OPEN["security"]


async def null_app(_: Scope, __: Receive, send: Send) -> None:
    """Answers with nothing."""
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def nowhere(_: Message) -> None:
    """Where an answer goes that nobody reads."""


async def test_admission_and_cors_cost_a_request_under_30_microseconds(settings: Settings) -> None:
    for number in range(100):
        secret = add_key(settings.api_keys_path, f"key-{number}", [KeyScope.READ, KeyScope.WRITE], 1e9)
    metrics = Metrics()
    limited = WorkLimit(64, metrics).limited(null_app)
    guarded = Admission(LiveKeys(settings), WorkLimit(64, metrics), metrics).guarded(limited, KeyScope.READ)
    answering_pages = CORSMiddleware(guarded, allow_origins=["https://shop.example"])
    headers = [(f"x-header-{number}".encode(), b"value") for number in range(10)]
    headers += [(b"origin", b"https://shop.example"), (b"authorization", f"Bearer {secret}".encode())]
    scope = {"type": "http", "method": "POST", "headers": headers}

    async def microseconds(app: Any) -> float:
        began = time.perf_counter()
        for _ in range(500):
            await app(scope, None, nowhere)
        return (time.perf_counter() - began) / 500 * 1e6

    # The least of many, since other programs share the machine.
    bare, known, of_a_page = [
        min([await microseconds(app) for _ in range(20)]) for app in (null_app, guarded, answering_pages)
    ]
    logger.info("microseconds a request: admission %.1f, with CORS %.1f", known - bare, of_a_page - bare)
    assert of_a_page - bare < 30
