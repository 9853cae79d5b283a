"""Pages of other origins: none may ask the API until the settings name them."""

import pytest
from pydantic import ValidationError

from feature_repo.memory_event_log import MemoryEventLog
from feature_repo.settings import Settings
from serving.access.api_keys import KeyScope, add_key
from tests.serving.conftest import running_api

pytestmark = pytest.mark.anyio

SHOP = "https://shop.example"
PREFLIGHT = {
    "Origin": SHOP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type",
}


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [
        (None, None),
        (("https://other.example",), None),
        (("https://other.example", SHOP), SHOP),
        (("*",), "*"),
    ],
)
async def test_pages_of_the_origins_that_are_named_may_ask_and_read_the_answer(
    api_settings: Settings, origins: tuple[str, ...] | None, allowed: str | None
) -> None:
    shop = api_settings.model_copy(update={"cors_origins": origins})
    add_key(shop.api_keys_path, "pages", [KeyScope.READ], None)
    async with running_api(shop, MemoryEventLog(shop)) as api:
        preflight = await api.client.options("/v1/recommendations", headers=PREFLIGHT)
        assert (preflight.status_code == 200) == (allowed is not None)
        asked = await api.client.post("/v1/recommendations", json={}, headers={"Origin": SHOP})
        assert asked.status_code == 401  # a page can read why
        assert asked.headers.get("Access-Control-Allow-Origin") == allowed
        assert "Access-Control-Allow-Credentials" not in asked.headers


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_no_page_of_another_origin_changes_the_catalog_or_erases(
    api_settings: Settings, method: str
) -> None:
    shop = api_settings.model_copy(update={"cors_origins": (SHOP,)})
    async with running_api(shop, MemoryEventLog(shop)) as api:
        asked = PREFLIGHT | {"Access-Control-Request-Method": method}
        assert (await api.client.options("/v1/items", headers=asked)).status_code == 400


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("https://shop.example", ("https://shop.example",)),
        ("https://shop.example, http://127.0.0.1:3000", ("https://shop.example", "http://127.0.0.1:3000")),
        ("*", ("*",)),
    ],
)
def test_origins_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, text: str, origins: tuple[str, ...]
) -> None:
    monkeypatch.setenv("FRESHET_CORS_ORIGINS", text)
    assert Settings().cors_origins == origins


@pytest.mark.parametrize("text", ["shop.example", "https://shop.example/", "https://a.example,", "null", ""])
def test_what_is_no_origin_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("FRESHET_CORS_ORIGINS", text)
    with pytest.raises(ValidationError, match="is no origin: write https:"):
        Settings()
