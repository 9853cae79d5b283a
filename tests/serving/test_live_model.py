"""Changing models while shoppers ask."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from feature_repo.ranking_features import RANKING_COLUMNS
from feature_repo.settings import Settings
from serving.bundle import Bundle
from serving.bundle_files import MANIFEST, write_bundle
from serving.live_version import new_refreshed_directory, remove_refreshed, set_current, set_refreshed
from tests.serving.conftest import Api, BreakableLog, click, item_ids, running_api
from tests.tiny_bundle import publish, tiny_bundle

pytestmark = pytest.mark.anyio


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; TimeoutError if that takes suspiciously long."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_new_version_is_noticed_and_answers(api: Api) -> None:
    assert (await api.recommend(k=1))["model_version"] == "v1"
    publish(api.service.settings.models_dir, tiny_bundle("v2", prefix="new-"))
    await until(lambda: api.service.model.version == "v2")
    reply = await api.recommend(k=2)
    assert (reply["model_version"], item_ids(reply)) == ("v2", ["new-mug", "new-kettle"])
    assert (await api.client.get("/v1/items/new-mug")).status_code == 200
    assert (await api.client.get("/v1/items/mug")).status_code == 404
    assert await api.metric('freshet_model_info{git_revision="unknown",version="v2"}') == 1
    assert await api.metric('freshet_model_info{git_revision="unknown",version="v1"}') == 0


async def test_the_first_model_is_noticed_by_a_server_that_began_without(
    api_settings: Settings, shop_log: BreakableLog
) -> None:
    async with running_api(api_settings, shop_log) as api:
        assert api.service.model.version is None
        publish(api_settings.models_dir, tiny_bundle())
        await until(lambda: api.service.model.version == "v1")
        assert (await api.recommend(k=1))["model_version"] == "v1"


async def test_naming_an_older_version_takes_the_model_back(api: Api) -> None:
    models = api.service.settings.models_dir
    publish(models, tiny_bundle("v2"))
    await until(lambda: api.service.model.version == "v2")
    set_current(models, "v1")
    await until(lambda: api.service.model.version == "v1")


async def test_requests_during_a_change_are_all_answered_each_by_one_version(api: Api) -> None:
    await api.send(click("kettle"), click("new-kettle"))
    stop, replies = asyncio.Event(), []

    async def shopper() -> None:
        while not stop.is_set():
            replies.append(await api.recommend(visitor_id="vera"))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(shopper())
        for version, prefix in (("v2", "new-"), ("v3", ""), ("v4", "new-")):
            publish(api.service.settings.models_dir, tiny_bundle(version, prefix))
            await until(lambda: api.service.model.version == version)  # noqa: B023
            seen = len(replies)
            await until(lambda: len(replies) > seen + 4)  # noqa: B023
        stop.set()
    prefixes = {"v1": "", "v2": "new-", "v3": "", "v4": "new-"}
    assert {reply["model_version"] for reply in replies} >= {"v2", "v3", "v4"}
    for reply in replies:
        prefix = prefixes[reply["model_version"]]
        assert item_ids(reply)[:2] == [f"{prefix}teapot", f"{prefix}mug"]
        assert {item.startswith("new-") for item in item_ids(reply)} == {prefix == "new-"}


def damage_an_array(directory: Path) -> None:
    path = directory / "covisited.items.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def lose_an_array(directory: Path) -> None:
    (directory / "items.price.npy").unlink()


def cut_the_manifest(directory: Path) -> None:
    path = directory / MANIFEST
    path.write_bytes(path.read_bytes()[:100])


def empty_the_manifest(directory: Path) -> None:
    (directory / MANIFEST).write_text("{}")


def make_the_manifest_a_list(directory: Path) -> None:
    (directory / MANIFEST).write_text("[]")


@pytest.mark.parametrize(
    "damage",
    [damage_an_array, lose_an_array, cut_the_manifest, empty_the_manifest, make_the_manifest_a_list],
)
async def test_a_damaged_bundle_is_refused_once_and_the_old_one_stays(
    api: Api, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    damaged = publish(api.service.settings.models_dir.parent / "elsewhere", tiny_bundle("v2"))
    damage(damaged)
    models = api.service.settings.models_dir
    damaged.rename(models / "v2")
    caplog.set_level(logging.ERROR)
    set_current(models, "v2")
    await until(lambda: caplog.messages)
    for _ in range(3):
        await api.service.model.look()
    assert len(caplog.messages) == 1
    assert "v1 stays" in caplog.messages[0]
    assert await api.metric("freshet_bundle_load_failures_total") == 1
    assert (await api.recommend(k=1))["model_version"] == "v1"


def refreshed(models: Path, fingerprint: str) -> Path:
    """A bundle of v1 with other items, made since; it does not count yet."""
    directory = new_refreshed_directory(models, "v1", fingerprint)
    write_bundle(tiny_bundle("v1", prefix=f"{fingerprint} "), directory)
    return directory


def shows(api: Api, item: str) -> Callable[[], object]:
    return lambda: item in api.service.model.recommender.bundle.item_index


async def test_a_refreshed_bundle_answers_under_its_version_until_it_is_gone(api: Api) -> None:
    models = api.service.settings.models_dir
    for fingerprint in ("aa", "bb"):
        set_refreshed(models, refreshed(models, fingerprint), keep=2)
        await until(shows(api, f"{fingerprint} mug"))
        reply = await api.recommend(k=1)
        assert (reply["model_version"], item_ids(reply)) == ("v1", [f"{fingerprint} mug"])
    remove_refreshed(models)
    await until(shows(api, "mug"))


async def test_a_refreshed_bundle_of_another_version_does_not_answer(api: Api) -> None:
    models = api.service.settings.models_dir
    set_refreshed(models, refreshed(models, "aa"), keep=2)
    await until(shows(api, "aa mug"))
    publish(models, tiny_bundle("v2", prefix="new-"))
    await until(shows(api, "new-mug"))
    set_refreshed(models, refreshed(models, "bb"), keep=2)
    await api.service.model.look()
    assert api.service.model.version == "v2"
    set_current(models, "v1")
    await until(shows(api, "bb mug"))


async def test_in_place_of_a_damaged_refreshed_bundle_the_trained_one_answers(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    models = api.service.settings.models_dir
    set_refreshed(models, refreshed(models, "aa"), keep=2)
    await until(shows(api, "aa mug"))
    damaged = refreshed(models, "bb")
    damage_an_array(damaged)
    set_refreshed(models, damaged, keep=2)
    await until(shows(api, "mug"))
    assert caplog.text.count("model bundle refused") == 1
    assert await api.metric("freshet_bundle_load_failures_total") == 1


async def test_a_bundle_for_other_features_is_refused_and_says_to_train_again(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = tiny_bundle("v2").manifest
    other: Bundle = replace(
        tiny_bundle("v2"),
        manifest=replace(
            manifest, feature_hash="another", feature_columns=["moon_phase", *RANKING_COLUMNS[1:]]
        ),
    )
    publish(api.service.settings.models_dir, other)
    await until(lambda: caplog.messages)
    assert RANKING_COLUMNS[0] in caplog.text
    assert "moon_phase" in caplog.text
    assert "train again" in caplog.text
    assert api.service.model.version == "v1"


async def test_after_a_refused_bundle_a_sound_one_is_taken(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    models = api.service.settings.models_dir
    set_current(models, "never trained")
    await until(lambda: caplog.messages)
    assert "freshet train" in caplog.text
    publish(models, tiny_bundle("v2"))
    await until(lambda: api.service.model.version == "v2")


async def test_a_model_that_answers_no_more_is_gone_at_once_with_its_open_files(api: Api) -> None:
    before = weakref.ref(api.service.model.recommender.bundle)
    publish(api.service.settings.models_dir, tiny_bundle("second"))
    gc.disable()  # what only a collection frees stays for long in a server, which puts them off
    try:
        await api.service.model.look()
        assert api.service.model.version == "second"
        assert before() is None
    finally:
        gc.enable()
