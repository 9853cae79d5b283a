"""What strangers send: refused with a 4xx that names the field, and nothing of it is kept."""

import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.errors import InputError
from feature_repo.settings import Settings
from serving import strict_json
from serving.load_shedding import LoadShedding
from tests.serving.conftest import Api, BreakableLog, click, logged, running_api

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}
DAY = 86_400_000_000


@pytest.fixture(scope="module")
async def api(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """One server that has to bear all of it."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), served_log_full_share=0)
    shutil.copytree(tiny_models, settings.models_dir)
    async with running_api(settings, BreakableLog(settings)) as running:
        yield running


@pytest.fixture
def shop_log(api: Api, api_settings: Settings) -> BreakableLog:
    """The server's log, empty for every test."""
    log = BreakableLog(api_settings)
    api.service.log, api.service.load_shedding = log, LoadShedding(log)
    return log


def now() -> int:
    return time.time_ns() // 1000


async def refused(api: Api, log: BreakableLog, path: str, body: Any) -> dict[str, str]:
    """Message by field of a 422; the log holds nothing afterwards."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    response = await api.client.post(path, content=content, headers=JSON)
    assert response.status_code == 422, response.text
    assert await logged(log) == []
    return {problem["field"]: problem["message"] for problem in response.json()["detail"]}


BAD_FIELDS: list[tuple[str, Any]] = [
    ("event_type", "stare"),
    ("event_type", 1),
    ("event_type", None),
    ("item_id", 1),
    ("item_id", ""),
    ("item_id", "x" * 10_000),
    ("item_id", "a\r\n*1\r\n$8\r\nFLUSHALL\r\n"),
    ("item_id", "nul\x00"),
    ("item_id", "line\n"),
    ("item_id", None),
    ("event_id", "tab\t"),
    ("event_id", ["e"]),
    ("user_id", "del\x7f"),
    ("user_id", True),
    ("visitor_id", {"id": "v"}),
    ("session_id", ""),
    ("placement", "x" * 129),
    ("request_id", 5),
    ("campaign_id", 5),
    ("timestamp", "yesterday"),
    ("timestamp", "2026-01-01T00:00:00"),  # of which time zone?
    ("timestamp", "2026-01-01"),
    ("timestamp", 1.5),
    ("timestamp", True),
    ("timestamp", 0),
    ("timestamp", "1970-01-01T00:00:00Z"),
    ("timestamp", "0001-01-01T00:00:00+14:00"),
    ("timestamp", "9999-12-31T23:59:59-14:00"),
    ("timestamp", 2**63),
    ("timestamp", -(2**63)),
    ("timestamp", time.time_ns() // 1000 + 365 * DAY),
    ("timestamp", time.time_ns() // 1000 - 401 * DAY),
    ("timestamp", int(time.time())),  # seconds: long past as microseconds
    ("position", -1),
    ("position", 1.0),
    ("position", "1"),
    ("position", 2**31),
    ("quantity", 0),
    ("quantity", -1),
    ("quantity", "2"),
    ("price", -0.01),
    ("price", "1.0"),
    ("value", "good"),
    ("value", False),
    ("query", ""),
    ("query", "q" * 513),
    ("query", 1),
    ("properties", "{}"),
    ("properties", []),
    ("properties", {"text": "x" * 5000}),
    ("colour", "blue"),
    ("arrival_time", 1),
    ("__class__", "x"),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS, ids=lambda value: repr(value)[:40])
async def test_a_bad_field_is_named_and_nothing_of_the_request_is_logged(
    api: Api, shop_log: BreakableLog, field: str, value: Any
) -> None:
    events = [click("mug"), click("kettle") | {field: value}]
    if isinstance(value, int) and abs(value) >= 2**63:
        body = b'{"events":[' + orjson.dumps(click("mug")) + b',{"event_type":"click","visitor_id":"v",'
        body += f'"item_id":"kettle","timestamp":{value}}}]}}'.encode()
        problems = await refused(api, shop_log, "/v1/events", body)
    else:
        problems = await refused(api, shop_log, "/v1/events", {"events": events})
    assert list(problems) == [f"events.1.{field}"]


@pytest.mark.parametrize("field", ["price", "quantity", "value", "position", "timestamp", "item_id"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
async def test_a_number_that_is_none_is_refused_in_every_field(
    api: Api, shop_log: BreakableLog, field: str, number: str
) -> None:
    fields = {"event_type": '"click"', "visitor_id": '"v"', "item_id": '"kettle"'} | {field: number}
    event = ",".join(f'"{name}":{value}' for name, value in fields.items())
    problems = await refused(api, shop_log, "/v1/events", f'{{"events":[{{{event}}}]}}'.encode())
    assert list(problems) == [f"events.0.{field}"]


@pytest.mark.parametrize(
    "value", ["NaN", "[1e999]", '"\\ud800"', '{"a":{"b":-Infinity}}', "9" * 400, "[" * 5000]
)
async def test_properties_hold_finite_numbers_and_valid_text(
    api: Api, shop_log: BreakableLog, value: str
) -> None:
    event = f'{{"event_type":"click","visitor_id":"v","item_id":"mug","properties":{{"p":{value}}}}}'
    response = await api.client.post("/v1/events", content=f'{{"events":[{event}]}}'.encode(), headers=JSON)
    assert response.status_code in {400, 422}
    assert "propert" in response.text or "deep" in response.text
    assert await logged(shop_log) == []


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"event_type": "click", "item_id": "mug"}, "user_id"),
        ({"event_type": "view", "visitor_id": "v"}, "item_id"),
        ({"event_type": "impression", "visitor_id": "v"}, "item_id"),
        ({"event_type": "search", "visitor_id": "v"}, "query"),
        ({"event_type": "rate", "visitor_id": "v", "item_id": "mug"}, "value"),
        ({"event_type": "redeem", "visitor_id": "v"}, "campaign_id"),
    ],
)
async def test_what_an_event_of_its_type_needs_is_named(
    api: Api, shop_log: BreakableLog, event: dict[str, Any], field: str
) -> None:
    problems = await refused(api, shop_log, "/v1/events", {"events": [event]})
    assert list(problems) == [f"events.0.{field}"]


async def test_every_bad_event_of_a_request_is_named(api: Api, shop_log: BreakableLog) -> None:
    events = [
        click("mug", timestamp=0),
        click("mug"),
        click("mug", timestamp=now() + DAY),
        {"event_type": "view", "user_id": "u"},
    ]
    problems = await refused(api, shop_log, "/v1/events", {"events": events})
    assert list(problems) == ["events.0.timestamp", "events.2.timestamp", "events.3.item_id"]
    assert "freshet import" in problems["events.0.timestamp"]
    assert "300 seconds ahead" in problems["events.2.timestamp"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "events"),
        ({"events": []}, "events"),
        ({"events": None}, "events"),
        ({"events": {}}, "events"),
        ({"events": [click("mug")] * 1001}, "events"),
        ({"events": [[]]}, "events.0"),
        ({"events": ["click"]}, "events.0"),
        ({"events": [click("mug")], "more": 1}, "more"),
        ([], "body"),
        (1, "body"),
        ("events", "body"),
        (None, "body"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_request_that_is_no_list_of_events_is_refused(
    api: Api, shop_log: BreakableLog, body: Any, field: str
) -> None:
    assert field in await refused(api, shop_log, "/v1/events", body)


@pytest.mark.parametrize(
    ("request_body", "field"),
    [
        ({"k": 0}, "k"),
        ({"k": -1}, "k"),
        ({"k": 101}, "k"),
        ({"k": 10**18}, "k"),
        ({"k": "20"}, "k"),
        ({"k": 2.0}, "k"),
        ({"k": None}, "k"),
        ({"k": True}, "k"),
        ({"user_id": 5}, "user_id"),
        ({"visitor_id": "x" * 10_000}, "visitor_id"),
        ({"placement": "\x1b[31m"}, "placement"),
        ({"context": {"item_ids": ["mug"] * 101}}, "context.item_ids"),
        ({"context": {"cart": ["mug", 5]}}, "context.cart.1"),
        ({"context": {"query": ""}}, "context.query"),
        ({"context": []}, "context"),
        ({"context": None}, "context"),
        ({"filters": {"brands": []}}, "filters.brands"),
        ({"filters": {"brands": "fern"}}, "filters.brands"),
        ({"filters": {"min_price": -1}}, "filters.min_price"),
        ({"filters": {"max_price": "9"}}, "filters.max_price"),
        ({"filters": {"category": ""}}, "filters.category"),
        ({"filters": {"colour": "blue"}}, "filters.colour"),
        ({"repeat_last_item": "yes"}, "repeat_last_item"),
        ({"repeat_last_item": 1}, "repeat_last_item"),
        ({"diversity": -0.1}, "diversity"),
        ({"diversity": 1.1}, "diversity"),
        ({"diversity": "0.5"}, "diversity"),
        ({"diversity": True}, "diversity"),
        ({"explain": "yes"}, "explain"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_bad_field_of_a_question_is_named(
    api: Api, shop_log: BreakableLog, request_body: Any, field: str
) -> None:
    assert list(await refused(api, shop_log, "/v1/recommendations", request_body)) == [field]


@pytest.mark.parametrize("path", ["/v1/events", "/v1/recommendations"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}}",
        b"{'k': 1}",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"k": 1, "k": 2}',
        b'{"context": {"cart": [], "cart": []}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"k": ' + b"1" * 5000 + b"}",
        b"{" + b",".join(b'"%d":0' % n for n in range(101)) + b"}",
        b'{"\\ud800": 1}',
        b'{"user_id": "\\udfff"}',
        b'{"user_id": "\x01"}',
        "{}".encode("utf-16"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_body_that_is_not_plain_json_is_refused(
    api: Api, shop_log: BreakableLog, path: str, body: bytes
) -> None:
    response = await api.client.post(path, content=body, headers=JSON)
    assert response.status_code in {400, 422}
    assert response.json()["detail"]
    assert await logged(shop_log) == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
async def test_another_content_type_is_refused(api: Api, shop_log: BreakableLog, kind: str) -> None:
    body = orjson.dumps({"events": [click("mug")]})
    response = await api.client.post("/v1/events", content=body, headers={"Content-Type": kind})
    assert response.status_code == 415
    assert "application/json" in response.json()["detail"]
    assert await logged(shop_log) == []


async def test_a_body_over_the_limit_is_refused_unread(api: Api, shop_log: BreakableLog) -> None:
    body = orjson.dumps({"events": [click("mug", query="x" * 10_000_000)]})
    response = await api.client.post("/v1/events", content=body, headers=JSON)
    assert response.status_code == 413
    assert "2097152 bytes" in response.json()["detail"]
    assert await logged(shop_log) == []


@pytest.mark.parametrize("claim", [{}, {"Content-Length": "10"}, {"Content-Length": "x"}])
async def test_a_body_over_the_limit_is_refused_whatever_length_it_claims(
    api: Api, shop_log: BreakableLog, claim: dict[str, str]
) -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 100_000
            yield b" " * 100_000

    response = await api.client.post("/v1/events", content=chunks(), headers=JSON | claim)
    assert response.status_code == 413
    assert await logged(shop_log) == []


async def test_a_body_just_within_the_limit_is_read(api: Api, shop_log: BreakableLog) -> None:
    body = orjson.dumps({"events": [click("mug", event_id="e")]})
    body = body.ljust(api.service.settings.max_body_bytes)
    assert (await api.client.post("/v1/events", content=body, headers=JSON)).status_code == 200
    assert [event.event_id for event in await logged(shop_log)] == ["e"]


async def test_a_refusal_does_not_repeat_what_was_sent(api: Api) -> None:
    marker = "correct horse battery staple"
    for body in (
        {"events": [click(marker + "\n", price=marker, event_type=marker)]},
        {"events": marker},
        marker,
    ):
        response = await api.client.post("/v1/events", json=body)
        assert response.status_code == 422
        assert marker not in response.text
    response = await api.client.post("/v1/events", content=marker.encode(), headers=JSON)
    assert response.status_code == 400
    assert marker not in response.text


async def test_an_unknown_field_of_a_monstrous_name_is_named_in_short(
    api: Api, shop_log: BreakableLog
) -> None:
    [field] = await refused(api, shop_log, "/v1/recommendations", {"x" * 100_000: 1})
    assert field == "x" * 128


async def test_a_reply_names_no_more_than_a_hundred_problems(api: Api, shop_log: BreakableLog) -> None:
    problems = await refused(api, shop_log, "/v1/events", {"events": [{}] * 1000})
    assert len(problems) == 101
    assert problems["body"] == "has 900 more problems"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/events", 405),
        ("PUT", "/v1/recommendations", 405),
        ("POST", "/v1/items/mug", 405),
        ("GET", "/v2/events", 404),
    ],
)
async def test_another_path_or_method_gets_a_reason_in_json(
    api: Api, method: str, path: str, status: int
) -> None:
    response = await api.client.request(method, path)
    assert response.status_code == status
    assert isinstance(response.json()["detail"], str)


plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(plain_json)
def test_plain_json_is_read_as_it_was_meant(value: object) -> None:
    assert strict_json.parse(orjson.dumps(value)) == value


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_json_or_refused(body: bytes) -> None:
    try:
        value = strict_json.parse(body)
    except InputError as error:
        assert "body" in str(error)  # noqa: PT017
    else:
        assert value is None or isinstance(value, bool | int | float | str | list | dict)
