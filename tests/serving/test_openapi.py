"""The OpenAPI document: no request it allows, or nearly allows, breaks the server; the page on the API is whole."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from feature_repo.memory_event_log import MemoryEventLog
from feature_repo.settings import Settings
from serving.app import create_app
from tests.tiny_bundle import publish, tiny_bundle

API_PAGE = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow")  # a price bound beyond float32 is infinite, which is right
def test_no_request_gets_a_server_error(tmp_path: Path) -> None:
    shop = Settings(home=tmp_path)
    publish(shop.models_dir, tiny_bundle())
    document = schemathesis.openapi.from_asgi("/openapi.json", create_app(shop, MemoryEventLog(shop)))
    operations: list[Any] = [found.ok() for found in document.get_all_operations()]  # type: ignore[union-attr]
    assert {operation.path for operation in operations} >= {"/v1/events", "/v1/recommendations"}
    for operation in operations:
        # What takes no body has nothing that could be wrong.
        for mode in GenerationMode if operation.body else [GenerationMode.POSITIVE]:
            call_often(operation, mode)


def call_often(operation: Any, mode: GenerationMode) -> None:
    """Send many requests that the document allows, or many that it does not."""

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(operation.as_strategy(generation_mode=mode))
    def call(case: Any) -> None:
        case.call_and_validate(checks=[not_a_server_error])

    call()


def test_every_endpoint_stands_on_the_api_page_with_an_example(tmp_path: Path) -> None:
    shop = Settings(home=tmp_path)
    page = API_PAGE.read_text()
    for path, methods in create_app(shop, MemoryEventLog(shop)).openapi()["paths"].items():
        for method in methods:
            _, heading, section = page.partition(f"## {method.upper()} {path}\n")
            assert heading, f"docs/api.md lacks {method.upper()} {path}"
            assert "curl " in section.partition("\n## ")[0], f"docs/api.md lacks a curl example of {path}"


def test_the_bounds_of_the_settings_stand_in_the_document(tmp_path: Path) -> None:
    shop = Settings(home=tmp_path, max_events_per_request=7, max_slate_size=5)
    schemas = create_app(shop, MemoryEventLog(shop)).openapi()["components"]["schemas"]
    assert schemas["ReceivedEvents"]["properties"]["events"]["maxItems"] == 7
    assert schemas["BoundedRequest"]["properties"]["k"] == {
        "default": 5,
        "maximum": 5,
        "minimum": 1,
        "title": "K",
        "type": "integer",
    }
