"""docs/your-shop.md, done: its files are imported, its requests checked, its script run in a browser."""

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, sync_playwright

from feature_repo.archive import Archive
from feature_repo.catalog import read_items
from feature_repo.event_log import Verdict
from feature_repo.events import LoggedEvent
from feature_repo.schema import Event, Item
from feature_repo.settings import Settings
from serving.app import create_app
from serving.received import ReceivedEvent, RecommendationRequest
from tests.serving.conftest import BreakableLog
from tests.tiny_bundle import publish, tiny_bundle
from training.imports.import_log import import_log

PAGE = (Path(__file__).parent.parent / "docs" / "your-shop.md").read_text()
CURLS = re.findall(r"curl -s http://127\.0\.0\.1:8000(\S+) .*?-d '(.*?)'", PAGE, re.DOTALL)
BROWSER = shutil.which("chromium")
VIEW_OF_A_MUG = "{ event_type: 'view', item_id: 'mug' }"


def blocks(language: str) -> list[str]:
    """Code of the page's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_files_shown_are_imported_by_the_map_shown(settings: Settings, tmp_path: Path) -> None:
    log, items = (text for text in blocks("") if "sku;" in text)
    [field_map] = blocks("yaml")
    for name, text in (("log.csv", log), ("items.csv", items), ("map.yaml", field_map)):
        (tmp_path / name).write_text(text)
    import_log(settings, tmp_path / "log.csv", items=tmp_path / "items.csv", field_map=tmp_path / "map.yaml")
    events = Archive(settings.archive_dir).read().to_pylist()
    assert [event[Event.TYPE] for event in events] == ["view", "view", "add_to_cart"]
    assert events[2][Event.PRICE] == 4.14
    assert events[2][Event.QUANTITY] == 1
    catalog = read_items(settings.catalog_dir).to_pylist()
    assert [item[Item.CATEGORY] for item in catalog] == ["Teaware > Pots"] * 2
    assert catalog[0][Item.BRAND] == "Oak & Ash"


def test_every_curl_sends_what_the_api_takes() -> None:
    assert [path for path, _ in CURLS] == ["/v1/recommendations", "/v1/events", "/v1/events"]
    for path, body in CURLS:
        request = json.loads(body)
        if path == "/v1/events":
            assert all(ReceivedEvent.model_validate(event) for event in request["events"])
        else:
            RecommendationRequest.model_validate(request)
    [anyone] = re.findall(r"`(\{\"placement\".*?\})`", PAGE)
    assert RecommendationRequest.model_validate_json(anyone).visitor_id is None


class RecordingLog(BreakableLog):
    """Keeps what it accepted, and can be away."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.accepted: list[LoggedEvent] = []

    async def append(self, events: Sequence[LoggedEvent]) -> list[Verdict]:
        verdicts = await super().append(events)
        pairs = zip(events, verdicts, strict=True)
        self.accepted += [event for event, verdict in pairs if verdict == Verdict.ACCEPTED]
        return verdicts

    def of_type(self, event_type: str) -> list[LoggedEvent]:
        return [event for event in self.accepted if event.event_type == event_type]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH: apt-get install chromium")
class TestInABrowser:
    @pytest.fixture
    def log(self, settings: Settings) -> RecordingLog:
        return RecordingLog(settings)

    @pytest.fixture
    def api(self, settings: Settings, log: RecordingLog) -> Iterator[TestClient]:
        publish(settings.models_dir, tiny_bundle())
        with TestClient(create_app(settings, log)) as client:
            yield client

    @pytest.fixture
    def page(self, api: TestClient) -> Iterator[Page]:
        """A browser's tab in a shop of the page's script."""
        with running_shop(api) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
            yield browser.new_page(base_url=url)
            browser.close()

    def test_a_view_shapes_the_slate_and_impressions_and_clicks_name_it(
        self, page: Page, log: RecordingLog
    ) -> None:
        page.goto("/product")
        page.wait_for_selector("li")
        assert page.locator("li").all_inner_texts()[:2] == ["teapot", "mug"]
        wait_until(page, lambda: log.of_type("impression"))
        page.locator("li").first.click()
        wait_until(page, lambda: log.of_type("click"))
        [click] = log.of_type("click")
        shown = log.of_type("impression")
        assert (click.item_id, click.position, click.placement) == ("teapot", 1, "item")
        assert {event.request_id for event in shown} == {click.request_id}
        assert {event.visitor_id for event in log.accepted} == {click.visitor_id}
        assert [event.item_id for event in log.of_type("view")] == ["kettle"]

    def test_what_an_outage_held_back_comes_once_with_the_next_page(
        self, page: Page, log: RecordingLog
    ) -> None:
        page.goto("/elsewhere")
        log.away = True
        track(page, VIEW_OF_A_MUG)
        assert queue(page) == ["mug"]
        log.away = False
        page.goto("/product")
        wait_until(page, lambda: log.of_type("impression") and queue(page) == [])
        assert sorted(event.item_id or "" for event in log.of_type("view")) == ["kettle", "mug"]

    def test_an_event_that_is_refused_is_dropped_and_holds_up_no_other(
        self, page: Page, log: RecordingLog
    ) -> None:
        page.goto("/elsewhere")
        track(page, "{ event_type: 'gaze', item_id: 'mug' }", VIEW_OF_A_MUG)
        assert [event.item_id for event in log.accepted] == ["mug"]
        assert queue(page) == []

    def test_what_waits_when_the_page_is_left_is_sent_along(self, page: Page, log: RecordingLog) -> None:
        page.goto("/elsewhere")
        log.away = True
        track(page, VIEW_OF_A_MUG)
        log.away = False
        page.goto("about:blank")
        wait_until(page, lambda: log.accepted)
        assert [event.item_id for event in log.accepted] == ["mug"]

    def test_after_a_logout_it_is_another_visitor(self, page: Page, log: RecordingLog) -> None:
        page.goto("/elsewhere")
        track(page, VIEW_OF_A_MUG)
        track(page, VIEW_OF_A_MUG)
        page.evaluate("import('/freshet.js').then((shop) => shop.forgetVisitor())")
        track(page, VIEW_OF_A_MUG)
        first, second, third = (event.visitor_id for event in log.accepted)
        assert first == second != third


@contextmanager
def running_shop(api: TestClient) -> Iterator[str]:
    """URL of a shop that has the page's script and passes two paths on to the API, as nginx would."""
    [script] = blocks("js")
    [product] = blocks("html")
    files = {
        "/freshet.js": ("text/javascript", script),
        "/product": ("text/html", product.replace("T-133", "kettle")),
        "/elsewhere": ("text/html", "<p>another page</p>"),
    }

    class Shop(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, text = files.get(self.path, ("text/plain", ""))
            self.answer(200 if text else 404, kind, text)

        def do_POST(self) -> None:
            reply = api.post(
                self.path.removeprefix("/freshet"),
                content=self.rfile.read(int(self.headers["Content-Length"])),
                headers={"Content-Type": self.headers["Content-Type"]},
            )
            self.answer(reply.status_code, "application/json", reply.text)

        def answer(self, status: int, kind: str, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def track(page: Page, *events: str) -> None:
    """Track events in the page, and return when the script has done what it can."""
    calls = ", ".join(f"shop.track({event})" for event in events)
    page.evaluate(f"import('/freshet.js').then((shop) => Promise.all([{calls}]).then(() => shop.flush()))")


def queue(page: Page) -> list[str]:
    """Items of the events that still wait in the browser."""
    return page.evaluate("JSON.parse(localStorage.getItem('freshet_queue')).map((event) => event.item_id)")


def wait_until(page: Page, condition: Callable[[], object]) -> None:
    """Return when the condition holds; the page goes on meanwhile."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "did not come true within 20 s"
        page.wait_for_timeout(20)
