"""The four DAGs in a browser, as a person runs them: parameters in the form, the run, and what it told."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from feature_repo.archive import Archive
from serving.bundle_files import read_manifest
from serving.live_version import current_version
from tests.conftest import wait_until
from tests.platform.conftest import LivePlatform
from tests.training.broken_day import append_swapped_day
from training.demo.airflow_api import Run
from training.demo.credentials import USER, credentials
from training.demo.processes import airflow_url
from training.publish import _verdict

pytestmark = [pytest.mark.slow, pytest.mark.integration]

PAGE_MILLISECONDS: Final = 120_000
"""Patience with a page on a busy machine."""


@pytest.fixture(scope="module")
def page(live: LivePlatform) -> Iterator[Page]:
    """A browser in which a person has logged in."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium on PATH to open Airflow's UI in: apt-get install chromium")
    expect.set_options(timeout=PAGE_MILLISECONDS)
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium) as browser:
        opened = browser.new_page(
            base_url=airflow_url(live.settings), viewport={"width": 1400, "height": 1000}
        )
        opened.set_default_timeout(PAGE_MILLISECONDS)
        opened.goto("/")
        opened.get_by_label("Username").fill(USER)
        opened.get_by_label("Password").fill(credentials(live.settings).password)
        opened.get_by_role("button", name="Sign in").click()
        expect(opened.get_by_role("link", name="Assets", exact=True).first).to_be_visible()
        yield opened


@pytest.fixture(autouse=True)
def picture(page: Page, tmp_path: Path) -> Iterator[None]:
    """What the person sees at the end of each test, to look at when it fails."""
    yield
    page.screenshot(path=tmp_path / "page.png")


def form(page: Page, dag: str) -> Locator:
    """The form that the button `Trigger` opens on a DAG's page."""
    page.goto(f"/dags/{dag}")
    page.get_by_role("button", name="Trigger Dag").click()
    opened = page.get_by_role("dialog")
    expect(opened.get_by_role("heading", name=f"Trigger Dag - {dag}")).to_be_visible()
    return opened


def fill(opened: Locator, **params: str) -> None:
    """Type parameters into the form; Airflow gives most of its fields a name, but no label that is tied to them."""
    for name, text in params.items():
        opened.locator(f"[name=element_{name}]").fill(text)


def press_trigger(opened: Locator) -> None:
    opened.get_by_role("button", name="Trigger", exact=True).click()


def triggered(page: Page, live: LivePlatform, dag: str, **params: str) -> str:
    """How a run with these parameters, started in the form, has ended by what its page says."""
    opened = form(page, dag)
    fill(opened, **params)
    press_trigger(opened)
    page.wait_for_url(f"**/dags/{dag}/runs/manual__*")
    wait_until(
        lambda: not live.is_paused(dag)
    )  # the page asks for that beside the run, and must not be left before
    address = page.url
    page.goto("about:blank")  # the spinners of a page that waits take a third of a core
    live.wait_for_end(Run(dag, unquote(address.rpartition("/")[2])))
    page.goto(address)
    state = page.get_by_test_id("state-badge").first
    expect(state).not_to_be_empty()
    return state.inner_text()


def open_task(page: Page, task: str) -> None:
    """From the page of a run to that of one of its tasks."""
    page.get_by_role("row").get_by_role("link", name=task, exact=True).click()
    page.wait_for_url(f"**/tasks/{task}")


def open_asset(page: Page, asset: str) -> None:
    page.goto("/assets")
    page.get_by_role("link", name=asset, exact=True).click()


def expect_told(page: Page, *facts: str) -> None:
    """The newest asset event on the page, opened by its arrow, shows the facts, wherever it breaks its lines."""
    newest = page.get_by_role("code").first
    newest.get_by_title("Click to expand the range.").click()

    def missing() -> list[str]:
        shown = without_blanks(newest.inner_text())
        return [fact for fact in facts if without_blanks(fact) not in shown]

    with suppress(TimeoutError):
        wait_until(lambda: not missing())
    assert missing() == []


def without_blanks(text: str) -> str:
    return "".join(text.split())


def test_a_person_brings_events_into_the_archive(page: Page, live: LivePlatform) -> None:
    assert live.click("ursula")
    assert triggered(page, live, "ingest_events") == "Success"
    assert live.archived("ursula") == 1
    open_asset(page, "event_log")
    expect_told(page, '"events":')


def test_a_person_builds_features_and_reads_whether_the_day_is_fit(page: Page, live: LivePlatform) -> None:
    assert triggered(page, live, "build_features") == "Success"
    open_asset(page, "quality")
    expect_told(page, '"verdict": "passed"', '"text": "passed: ')
    open_asset(page, "features")
    expect_told(page, '"user_statistics": ', '"as_of": "')


def test_a_wrong_parameter_is_refused_with_the_reason_beside_the_form(page: Page) -> None:
    opened = form(page, "rollback_model")
    fill(opened, version="the good one")
    press_trigger(opened)
    expect(opened).to_contain_text("Invalid input for param version: 'the good one' does not match")
    page.get_by_role("button", name="Close").first.click()


def test_a_number_outside_its_range_becomes_the_nearest_inside(page: Page) -> None:
    opened = form(page, "train_models")
    for typed, taken in (("0", "1"), ("1000", "100")):
        fill(opened, epochs=typed)
        opened.locator("[name=element_force]").focus()
        expect(opened.locator("[name=element_epochs]")).to_have_value(taken)
    opened.get_by_role("button", name="Close").click()


def test_a_person_trains_a_model_reads_its_score_and_takes_it_back(page: Page, live: LivePlatform) -> None:
    models = live.settings.models_dir
    first = current_version(models)
    assert triggered(page, live, "train_models", epochs="1", force="to have two models") == "Success"
    version = current_version(models)
    assert version is not None
    assert version != first

    verdict = _verdict(read_manifest(models / version))
    score = str(verdict.challenger)
    open_task(page, "publish")
    page.get_by_role("link", name="Asset Events").click()
    expect_told(
        page,
        f'"version": "{version}"',
        f'"NDCG@10 ranked": "{score}"',
        str(verdict),
        '"forced_because": "to have two models"',
    )

    page.go_back()
    page.go_back()
    open_task(page, "evaluate")
    page.get_by_role("link", name="Storage").click()
    page.get_by_role("link", name="XCom").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name="NDCG@10 ranked", exact=True))
    expect(row).to_contain_text(score)

    assert triggered(page, live, "rollback_model") == "Success"
    assert current_version(models) == first
    open_asset(page, "model")
    expect_told(page, f'"version": "{first}"', '"action": "rolled back"')


def test_a_broken_day_stops_the_features_and_the_page_says_why(page: Page, live: LivePlatform) -> None:
    append_swapped_day(Archive(live.settings.archive_dir))

    assert triggered(page, live, "build_features") == "Failed"
    open_asset(page, "quality")
    expect_told(page, '"verdict": "stopped"', "exchange item_id with user_id or visitor_id")
