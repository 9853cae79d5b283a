"""What the shop says of its items acts at once, and stays."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from feature_repo.catalog import read_items, upsert_items
from feature_repo.catalog_changes import CatalogChange, CatalogLog, LoggedChange, changed_rows
from feature_repo.errors import LogUnavailableError
from feature_repo.event_log import EventLog
from feature_repo.schema import ITEM_SCHEMA, SECOND, Item
from feature_repo.settings import Settings
from serving import app, live_catalog
from serving.bundle import Availability, Bundle
from serving.indexes import PopularityLists
from serving.live_catalog import LaidOver, LiveCatalog
from tests.serving.conftest import Api, BreakableLog, item_ids, running_api
from tests.tiny_bundle import NAMES, SOLD_OUT, publish, tiny_bundle
from training.stream.catalog_file import CatalogFile

pytestmark = pytest.mark.anyio


async def change(api: Api, method: str, *items: dict[str, Any]) -> None:
    response = await api.client.request(method, "/v1/items", json={"items": items})
    assert (response.status_code, response.json()) == (200, {"items": len(items)})
    await api.service.catalog.look()


async def test_what_is_sold_out_is_shown_no_more_and_what_is_back_again_is(api: Api) -> None:
    assert "mug" in item_ids(await api.recommend(k=10))
    await change(
        api, "PATCH", {"item_id": "mug", "available": False}, {"item_id": SOLD_OUT, "available": True}
    )
    slate = item_ids(await api.recommend(k=10))
    assert "mug" not in slate
    assert SOLD_OUT in slate


def unlisted(bundle: Bundle, name: str) -> Bundle:
    """The bundle of a shop whose catalog lacks this item, as it is assembled."""
    available = bundle.availability.available & (np.array(NAMES) != name)
    return replace(bundle, availability=Availability(available))


async def test_who_tells_of_the_stock_of_what_the_catalog_lacks_does_not_put_it_on_sale(api: Api) -> None:
    publish(api.service.settings.models_dir, unlisted(tiny_bundle("second"), "mug"))
    await api.service.model.look()
    await change(api, "PATCH", {"item_id": "mug", "available": True, "price": 1})
    assert "mug" not in item_ids(await api.recommend(k=10))
    await change(api, "PUT", {"item_id": "mug", "title": "Mug"})
    assert "mug" in item_ids(await api.recommend(k=10))
    await change(api, "PATCH", {"item_id": "mug", "available": False})
    assert "mug" not in item_ids(await api.recommend(k=10))


async def test_a_new_price_counts_in_filters_and_shows(api: Api) -> None:
    cheap = {"filters": {"max_price": 1}}
    assert item_ids(await api.recommend(**cheap)) == []
    await change(api, "PATCH", {"item_id": "desk", "price": 0.5})
    assert item_ids(await api.recommend(**cheap)) == ["desk"]
    assert (await api.client.get("/v1/items/desk")).json()["price"] == 0.5
    assert (await api.client.get("/v1/items/desk")).json()["title"] is not None
    await change(api, "PATCH", {"item_id": "desk", "price": None})
    assert item_ids(await api.recommend(**cheap)) == []


async def test_a_whole_row_takes_the_place_of_the_one_before(api: Api) -> None:
    await change(api, "PUT", {"item_id": "desk", "title": "A better desk", "price": 3})
    row = (await api.client.get("/v1/items/desk")).json()
    assert (row["title"], row["price"], row["brand"]) == ("A better desk", 3, None)


@pytest.mark.parametrize(
    ("method", "item", "field"),
    [
        ("PUT", {}, "items.0.item_id"),
        ("PUT", {"item_id": "mug", "price": -1}, "items.0.price"),
        ("PUT", {"item_id": "mug", "colour": "red"}, "items.0.colour"),
        ("PUT", {"item_id": "mug", "created_at": 1_764_000_000_000_000_000}, "items.0.created_at"),  # ns
        ("PUT", {"item_id": "mug", "created_at": "9999-12-31T23:59:59-12:00"}, "items.0.created_at"),
        ("PUT", {"item_id": "mug", "created_at": -1}, "items.0.created_at"),
        ("PATCH", {"item_id": "mug", "title": "Mug"}, "items.0.title"),
        ("PATCH", {"item_id": "mug", "available": "no"}, "items.0.available"),
    ],
)
async def test_a_bad_item_is_refused_by_field_and_nothing_changes(
    api: Api, method: str, item: dict[str, Any], field: str
) -> None:
    good = {"item_id": "mug", "available": False}
    response = await api.client.request(method, "/v1/items", json={"items": [item, good]})
    assert response.status_code == 422
    assert response.json()["detail"][0]["field"] == field
    assert await api.service.log.catalog.after(None) == []


async def test_a_server_that_starts_later_knows_what_changed(
    api: Api, shop_log: BreakableLog, api_settings: Settings
) -> None:
    await change(api, "PATCH", {"item_id": "mug", "available": False})
    async with running_api(api_settings, shop_log) as another:
        assert "mug" not in item_ids(await another.recommend(k=10))


async def test_a_new_model_is_laid_under_what_changed(api: Api) -> None:
    await change(api, "PATCH", {"item_id": "mug", "available": False})
    publish(api.service.settings.models_dir, tiny_bundle("second"))
    await api.service.model.look()
    assert api.service.model.version == "second"
    assert "mug" not in item_ids(await api.recommend(k=10))


async def test_a_model_that_cannot_answer_leaves_the_catalog_with_the_one_that_does(api: Api) -> None:
    items, scores = np.array([len(NAMES)], np.int32), np.ones(1, np.float32)
    beyond = PopularityLists(items, scores, items, scores)  # no item has this index
    publish(api.service.settings.models_dir, replace(tiny_bundle("second"), popularity=beyond))
    await api.service.model.look()
    assert api.service.model.version == "v1"
    await change(api, "PATCH", {"item_id": "mug", "available": False})
    assert "mug" not in item_ids(await api.recommend(k=10))


async def test_what_changes_while_a_new_model_is_made_ready_is_in_both(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = api.service.catalog
    lay_over = catalog.lay_over

    async def meanwhile(bundle: Bundle) -> LaidOver:
        laid = await lay_over(bundle)
        await change(api, "PATCH", {"item_id": "mug", "available": False})
        assert "mug" not in item_ids(await api.recommend(k=10))
        return laid

    monkeypatch.setattr(catalog, "lay_over", meanwhile)
    publish(api.service.settings.models_dir, tiny_bundle("second"))
    await api.service.model.look()
    assert api.service.model.version == "second"
    assert "mug" not in item_ids(await api.recommend(k=10))
    assert not (await api.client.get("/v1/items/mug")).json()["available"]


async def written(api: Api) -> None:
    """Have what the log holds in the file, and in the log no more."""
    await CatalogFile(api.service.log.catalog, api.service.settings.catalog_dir).write()
    await api.service.log.catalog.forget_before(time.time_ns() // 1000 + 1)


async def test_what_changes_while_a_new_model_takes_long_to_make_ready_is_in_it(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_catalog, "KEPT_SECONDS", 0.0)
    catalog = api.service.catalog
    rows = [whole({Item.ID: name}) for name in NAMES]
    upsert_items(api.service.settings.catalog_dir, changed_rows(ITEM_SCHEMA.empty_table(), rows))
    laid = await catalog.lay_over(tiny_bundle("second"))
    await change(api, "PATCH", {"item_id": "mug", "available": False})
    await written(api)
    await catalog.follow(laid)
    assert not laid.bundle.availability.available[NAMES.index("mug")]


async def test_an_item_is_looked_up_as_it_is_now_also_after_a_change_of_the_model(api: Api) -> None:
    upsert_items(
        api.service.settings.catalog_dir,
        changed_rows(ITEM_SCHEMA.empty_table(), [whole({Item.ID: "desk", Item.TITLE: "A better desk"})]),
    )
    await change(api, "PATCH", {"item_id": "desk", "price": 0.5})
    await written(api)
    publish(api.service.settings.models_dir, tiny_bundle("second"))
    await api.service.model.look()
    row = (await api.client.get("/v1/items/desk")).json()
    assert (row["title"], row["price"]) == ("A better desk", 0.5)


async def away(_: str | None) -> NoReturn:
    raise LogUnavailableError("the event log cannot be reached: start Redis")


async def test_a_model_is_laid_under_what_the_file_says_while_the_log_is_away(
    api: Api, shop_log: BreakableLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {Item.ID: "mug", Item.AVAILABLE: False}
    upsert_items(api.service.settings.catalog_dir, changed_rows(ITEM_SCHEMA.empty_table(), [whole(row)]))
    publish(api.service.settings.models_dir, tiny_bundle("second"))
    monkeypatch.setattr(shop_log.catalog, "after", away)
    await api.service.model.look()
    assert api.service.model.version == "second"
    assert "mug" not in item_ids(await api.recommend(k=10))


async def test_while_the_log_is_away_nothing_changes_and_what_lies_over_the_model_stays_certain(
    api: Api, shop_log: BreakableLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await change(api, "PATCH", {"item_id": "mug", "available": False})
    monkeypatch.setattr(shop_log.catalog, "after", away)
    monkeypatch.setattr(live_catalog, "KEPT_SECONDS", 0.0)
    state = api.service.model.recommender.bundle.catalog_state
    await api.service.catalog.look()
    assert api.service.model.recommender.bundle.catalog_state == state is not None
    assert "mug" not in item_ids(await api.recommend(k=10))


async def test_a_look_that_fails_is_said_once_and_tried_again(
    api_settings: Settings,
    shop_log: BreakableLog,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    looks = 0

    async def look(_: LiveCatalog) -> None:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise OSError("the disk is gone")

    monkeypatch.setattr(LiveCatalog, "look", look)
    monkeypatch.setattr(app, "CATALOG_SECONDS", 0.001)
    async with running_api(api_settings, shop_log), asyncio.timeout(10):
        while looks < 4:
            await asyncio.sleep(0.001)
    assert [record.name for record in caplog.records].count(app.__name__) == 1


async def test_what_the_file_says_goes_before_what_the_model_was_trained_on(
    tiny_models: Path, api_settings: Settings, shop_log: BreakableLog
) -> None:
    rows = [{Item.ID: name, Item.AVAILABLE: name != "kettle", Item.PRICE: 7.0} for name in NAMES]
    upsert_items(api_settings.catalog_dir, changed_rows(ITEM_SCHEMA.empty_table(), map(whole, rows)))
    publish(api_settings.models_dir, tiny_bundle())
    async with running_api(api_settings, shop_log) as api:
        slate = item_ids(await api.recommend(k=10, filters={"max_price": 7}))
        assert set(slate) == {*NAMES} - {"kettle"}


def whole(row: dict[str, Any]) -> CatalogChange:
    values = {name: row.get(name) for name in ITEM_SCHEMA.names if name != Item.ID}
    return CatalogChange(row[Item.ID], values)


async def test_changes_are_written_to_the_file_in_order_and_again_without_harm(
    log: EventLog, tmp_path: Path
) -> None:
    lamp = whole({Item.ID: "lamp", Item.TITLE: "Lamp", Item.PRICE: 5.0})
    await log.catalog.append([lamp, CatalogChange("lamp", {Item.PRICE: 4.0})])
    await log.catalog.append([CatalogChange("unheard-of", {Item.PRICE: 4.0})])
    writer = CatalogFile(log.catalog, tmp_path)
    assert await writer.write() == 3
    assert await writer.write() == 0
    await log.catalog.append([CatalogChange("lamp", {Item.AVAILABLE: False})])
    assert await writer.write() == 1
    assert await CatalogFile(log.catalog, tmp_path).write() == 4  # another, which begins anew
    [row] = read_items(tmp_path).to_pylist()
    assert (row[Item.ID], row[Item.TITLE], row[Item.PRICE], row[Item.AVAILABLE]) == (
        "lamp",
        "Lamp",
        4.0,
        False,
    )


def overtaken(
    changes: CatalogLog, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Awaitable[object]]
) -> None:
    """Have something happen once, after whoever next asks for changes was told them and before it goes on."""
    after = changes.after

    async def slowly(seen: str | None) -> list[LoggedChange]:
        monkeypatch.setattr(changes, "after", after)
        entries = await after(seen)
        await meanwhile()
        return entries

    monkeypatch.setattr(changes, "after", slowly)


async def test_of_two_that_write_the_file_neither_undoes_what_the_other_knew_more(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = log.catalog
    slow, quick = CatalogFile(changes, tmp_path), CatalogFile(changes, tmp_path)
    await changes.append([whole({Item.ID: "lamp", Item.PRICE: 5.0})])

    async def meanwhile() -> None:
        await changes.append([CatalogChange("lamp", {Item.PRICE: 4.0})])
        await quick.write()

    overtaken(changes, monkeypatch, meanwhile)
    await slow.write()
    assert read_items(tmp_path)[Item.PRICE].to_pylist() == [4.0]


async def test_two_that_write_what_is_old_at_once_both_end_well(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = log.catalog
    writer, other = CatalogFile(changes, tmp_path), CatalogFile(changes, tmp_path)
    await changes.append([whole({Item.ID: "lamp", Item.PRICE: 5.0})])

    async def meanwhile() -> None:
        await other.write()
        await changes.forget_before(time.time_ns() // 1000 + SECOND)

    overtaken(changes, monkeypatch, meanwhile)
    assert await writer.write() == 0
    assert read_items(tmp_path)[Item.PRICE].to_pylist() == [5.0]


async def test_what_is_older_than_servers_need_leaves_the_log(log: EventLog) -> None:
    await log.catalog.append([CatalogChange("lamp", {Item.PRICE: 4.0})])
    [entry] = await log.catalog.after(None)
    await log.catalog.forget_before(entry.logged_at)
    assert [kept.entry_id for kept in await log.catalog.after(None)] == [entry.entry_id]
    await log.catalog.forget_before(entry.logged_at + 10_000)
    assert await log.catalog.after(None) == []
