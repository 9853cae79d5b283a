"""A logged request is answered again as it was, whatever has changed since, or it is said what is gone."""

import random
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.batch_features import USER_STATISTICS
from feature_repo.item_activity import UNKNOWN_ACTIVITY
from feature_repo.online_user import OnlineUser
from feature_repo.ranking_features import RANKING_COLUMNS, SOURCES
from feature_repo.schema import DAY, HOUR, SECOND
from feature_repo.settings import Settings
from serving import retrieval
from serving.bundle import Bundle
from serving.bundle_files import write_bundle
from serving.in_time.attempt import Again, Rung
from serving.live_catalog import KEPT_SECONDS
from serving.live_version import new_refreshed_directory, set_refreshed
from serving.query import Question
from serving.ranking import Ranker, Rankers
from serving.recommender import Recommender
from serving.replays.absence import Answer, Stage, fate_of
from serving.served import state_journal
from serving.served.request_id import new_request_id
from serving.sources.source import NOTHING, Retrieved
from tests.feature_repo.published import published
from tests.serving.conftest import Api, BreakableLog, Fields, click, running_api
from tests.tiny_bundle import (
    BRANDS,
    CATEGORIES,
    NAMES,
    TRAINED_AT,
    publish,
    tiny_bundle,
    tiny_encoder,
    with_encoder,
)
from training.served_merge import merge_folder

pytestmark = pytest.mark.anyio

PLACEMENTS = """
diverse:
  about: Few of a kind.
  sources: everything
  caps: {brand: 2, category: 1}
  diversity: 0.6
  diversity_kind: dpp
ruled:
  about: Whatever a rule may do.
  sources: everything
  filter: {max_price: 95}
  boost:
    - {factor: 3, brands: [fern]}
  pin: {lamp: 3}
  explore: {slots: [2], temperature: 2.0, newer_than_days: 10000}
  fatigue: {weight: 0.5, half_life_hours: 1}
"""
ALL_PLACEMENTS = (
    "ruled",
    "home",
    "item",
    "substitutes",
    "complements",
    "category",
    "cross_category",
    "search",
    "diverse",
)


@cache
def touchy_ranker() -> Ranker:
    """A score that every feature moves, and every small change of it."""
    draw = np.random.default_rng(3)
    rows = draw.normal(scale=4, size=(3000, len(RANKING_COLUMNS))).astype(np.float32)
    scores = rows @ draw.normal(size=len(RANKING_COLUMNS))
    parameters = {"objective": "regression", "num_leaves": 63, "num_threads": 1, "verbose": -1}
    return Ranker(lightgbm.train(parameters, lightgbm.Dataset(rows, scores), num_boost_round=120))


def touchy_bundle(version: str, number: int = 0) -> Bundle:
    """A model like no other ``number``."""
    ranker, bundle = touchy_ranker(), with_encoder(tiny_bundle(version), tiny_encoder())
    statistics = np.random.default_rng(number).normal(size=bundle.items.statistics.shape).astype(np.float32)
    return replace(
        bundle,
        rankers=Rankers(ranker, ranker),
        items=replace(bundle.items, statistics=statistics),
    )


@pytest.fixture
def api_settings(api_settings: Settings) -> Settings:
    """Settings under which nothing is written before ``write_all`` is called."""
    return api_settings.model_copy(update={"served_log_flush_seconds": HOUR / SECOND})


@pytest.fixture
async def touchy(api_settings: Settings, shop_log: BreakableLog, tmp_path: Path) -> AsyncIterator[Api]:
    """The API of a shop in which whatever changes moves the scores."""
    placements = tmp_path / "placements.yaml"
    placements.write_text(PLACEMENTS)
    settings = api_settings.model_copy(update={"placements": placements, "candidates": 10})
    publish(settings.models_dir, touchy_bundle("v0"))
    async with running_api(settings, shop_log) as api:
        yield api


async def replayed(api: Api, request_id: str, **parameters: str) -> Fields:
    response = await api.client.get(f"/v1/requests/{request_id}", params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


async def refusal(api: Api, request_id: str) -> tuple[int, str]:
    response = await api.client.get(f"/v1/requests/{request_id}")
    return response.status_code, response.json()["detail"]


def write_all(api: Api) -> None:
    """Have all that was served on disk now."""
    api.service.slates.served_log._flush()


@contextmanager
def hurry(api: Api) -> Iterator[None]:
    """Meanwhile no slate has time for more than lists that stand ready."""
    slates = api.service.slates
    patient = slates._settings
    slates._settings = patient.model_copy(update={"slate_seconds": 1e-9})
    try:
        yield
    finally:
        slates._settings = patient


class Day:
    """A shop in which things happen, and requests come."""

    def __init__(self, api: Api, log: BreakableLog) -> None:
        self.api = api
        self.log = log
        self.dice = random.Random(7)
        self.models = 0

    async def happen(self) -> None:
        dice, models = self.dice, self.api.service.settings.models_dir
        if dice.random() < 0.5:
            kind = dice.choice(["view", "click", "add_to_cart", "purchase"])
            await self.api.send(click(dice.choice(NAMES), event_type=kind, **self.someone()))
        if dice.random() < 0.2:
            offer = {
                "item_id": dice.choice(NAMES),
                "price": dice.uniform(1, 99),
                "available": dice.random() < 0.8,
            }
            await self.api.client.patch("/v1/items", json={"items": [offer]})
            await self.api.service.catalog.look()
        if dice.random() < 0.2:
            counts = {name: dice.randrange(1, 500) for name in dice.sample(NAMES, 3)}
            await self.log.publish_activity(published(time.time_ns() // 1000, **counts).to_bytes())
        await self.api.service.slates.activity.look()
        if dice.random() < 0.2:
            statistics = np.array([dice.uniform(-9, 9) for _ in USER_STATISTICS], np.float32)
            statistics[dice.randrange(len(statistics))] = np.nan
            taste = np.array([dice.gauss(0, 1) for _ in CATEGORIES], np.float32)
            user = OnlineUser(statistics, taste, dice.choice(["v0", "v1"]), time.time_ns() // 1000)
            self.log.features[dice.choice(["u:ada", "u:bea"])] = user
        if dice.random() < 0.05:
            self.models += 1
            if dice.random() < 0.5:
                publish(models, touchy_bundle(f"v{self.models}", self.models))
            else:
                live = self.api.service.model.version or ""
                directory = new_refreshed_directory(models, live, f"f{self.models}")
                write_bundle(touchy_bundle(live, self.models), directory)
                set_refreshed(models, directory, keep=100)
            await self.api.service.model.look()

    async def ask(self) -> Fields:
        dice = self.dice
        context = {
            "item_ids": dice.sample(NAMES, dice.randrange(3)),
            "cart": dice.sample(NAMES, dice.randrange(2)),
        }
        if dice.random() < 0.1:
            items = [*dice.sample(NAMES, 5), "no such item"]
            rerank = {"items": items, "context": context, **self.someone()}
            return (await self.api.client.post("/v1/rerank", json=rerank)).json()
        filters: Fields = {}
        if dice.random() < 0.3:
            filters = dice.choice(
                [
                    {"category": "home"},
                    {"brands": [BRANDS[0]]},
                    {"max_price": dice.uniform(10, 99)},
                    {"min_price": 20},
                ]
            )
        return await self.api.recommend(
            placement=dice.choice(ALL_PLACEMENTS),
            k=dice.randrange(1, 8),
            context={**context, "query": dice.choice(["lamp shade", "tea pot", "mug"])},
            filters=filters,
            repeat_last_item=dice.random() < 0.5,
            diversity=dice.choice([None, None, 0.0, 0.5]),
            **self.someone(),
        )

    def someone(self) -> dict[str, str]:
        return self.dice.choice(
            [{"user_id": "ada"}, {"user_id": "bea", "visitor_id": "vera"}, {"visitor_id": "vic"}]
        )


@pytest.mark.parametrize("requests", [100, pytest.param(1000, marks=pytest.mark.slow)])
async def test_logged_requests_replay_to_the_same_slates(
    touchy: Api, shop_log: BreakableLog, requests: int
) -> None:
    day = Day(touchy, shop_log)
    replies = []
    for _ in range(requests):
        await day.happen()
        with hurry(touchy) if day.dice.random() < 0.1 else nullcontext():
            replies.append(await day.ask())
    assert {"rankers"} < {reply["ranked_by"] for reply in replies}
    write_all(touchy)
    places = set()
    for reply in replies:
        again = await replayed(touchy, reply["request_id"])
        told = [(item["item_id"], item["score"]) for item in again["replayed"]]
        served = [(item["item_id"], item["score"]) for item in reply["items"] if item["item_id"] in NAMES]
        assert told == served
        assert again["same"]
        places.add(again["bundle"])
    assert len(places) > 1


async def test_a_replay_shows_what_was_served_and_what_it_was_made_of(touchy: Api) -> None:
    await touchy.send(click("kettle"))
    reply = await touchy.recommend(visitor_id="vera", k=3, context={"cart": ["desk"]}, explain=True)
    write_all(touchy)
    again = await replayed(touchy, reply["request_id"])
    assert again["replayed"] == reply["items"]
    assert again["served"] == [
        {name: item[name] for name in ("item_id", "position", "score", "sources")} for item in reply["items"]
    ]
    assert (again["visitor_id"], again["bundle"], again["placement"]) == ("vera", "v0", "home")
    assert again["question"]["cart"] == ["desk"]
    assert again["question"]["events"][0]["item_id"] == "kettle"
    assert again["item"] is None


async def test_a_replay_tells_no_probability_that_the_slate_withheld(touchy: Api) -> None:
    reply = await touchy.recommend(placement="substitutes", context={"item_ids": ["kettle"]}, explain=True)
    write_all(touchy)
    again = await replayed(touchy, reply["request_id"])
    assert again["replayed"] == reply["items"]
    assert {item["click_probability"] for item in again["replayed"]} == {None}


async def test_a_server_that_starts_later_replays_it_too(
    touchy: Api, api_settings: Settings, shop_log: BreakableLog
) -> None:
    await touchy.client.patch("/v1/items", json={"items": [{"item_id": "mug", "price": 1.5}]})
    await touchy.service.catalog.look()
    reply = await touchy.recommend(k=5)
    write_all(touchy)
    async with running_api(api_settings, shop_log) as another:
        assert (await replayed(another, reply["request_id"]))["same"]


async def sells_for(api: Api, price: float) -> None:
    await api.client.patch("/v1/items", json={"items": [{"item_id": "mug", "price": price}]})
    await api.service.catalog.look()


async def state_replayed(api: Api) -> str:
    """The state of the catalog as a request sees it now, which must replay to the same slate."""
    reply = (await api.client.post("/v1/rerank", json={"items": ["mug"]})).json()
    write_all(api)
    again = await replayed(api, reply["request_id"])
    assert [item["score"] for item in again["replayed"]] == [item["score"] for item in reply["items"]]
    return again["catalog_state"]


async def test_what_a_model_that_is_not_live_yet_is_told_counts_not_for_the_live_one(touchy: Api) -> None:
    await sells_for(touchy, 11)
    before = await state_replayed(touchy)
    await touchy.service.catalog.follow(await touchy.service.catalog.lay_over(touchy_bundle("next")))
    await sells_for(touchy, 99)
    assert await state_replayed(touchy) == before


async def test_a_catalog_that_is_read_anew_is_written_down_anew(touchy: Api) -> None:
    await sells_for(touchy, 11)
    before = await state_replayed(touchy)
    followed = touchy.service.catalog._followed
    assert followed is not None
    followed.looked_at -= KEPT_SECONDS
    await sells_for(touchy, 99)
    assert (await state_replayed(touchy)).partition(".")[0] != before.partition(".")[0]


async def test_a_layer_is_renewed_though_nothing_changes(
    touchy: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sells_for(touchy, 99)
    before = await state_replayed(touchy)
    monkeypatch.setattr(state_journal, "LAYER_SECONDS", 0.0)
    await touchy.service.catalog.look()
    after = await state_replayed(touchy)
    assert (before.rpartition(".")[2], after.rpartition(".")[2]) == ("1", "0")


async def test_a_slate_during_which_the_catalog_changed_is_not_replayed(
    touchy: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = touchy.service.model.recommender.bundle.states
    assert states is not None

    def changes(*_: object) -> Retrieved:
        states.state = "another"
        return NOTHING

    retrievers: Any = retrieval.RETRIEVERS
    monkeypatch.setitem(retrievers, "popular", changes)
    reply = await touchy.recommend()
    write_all(touchy)
    status, detail = await refusal(touchy, reply["request_id"])
    assert (status, detail) == (410, "the catalog changed just while the request was answered")


async def test_a_question_that_this_release_cannot_read_is_gone(
    touchy: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = await touchy.recommend()
    monkeypatch.setattr("serving.served.served_log.to_text", lambda _: '{"events": "of another time"}')
    write_all(touchy)
    status, detail = await refusal(touchy, reply["request_id"])
    assert (status, "cannot be read any more" in detail) == (410, True)


async def test_a_request_is_looked_for_in_one_file(touchy: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for _ in range(5):
        told.append((await touchy.recommend())["request_id"])
        write_all(touchy)
    opened: list[str] = []
    read = pq.read_table

    def noted(path: Path, **options: Any) -> pa.Table:
        opened.append(path.parents[1].name)
        return read(path, **options)

    monkeypatch.setattr(pq, "read_table", noted)
    for request_id in told:
        assert (await replayed(touchy, request_id))["same"]
    assert opened == ["requests", "items"] * 5


async def test_a_request_of_a_merged_day_is_replayed(touchy: Api) -> None:
    told = []
    for item in NAMES[:5]:
        told.append((await touchy.recommend(context={"item_ids": [item]}))["request_id"])
        write_all(touchy)
    settings = touchy.service.settings
    before = [await replayed(touchy, request_id) for request_id in told]
    for folder in settings.served_dir.glob("*/date=*"):
        assert merge_folder(settings, folder)
        assert ["merged" in path.name for path in folder.iterdir()] == [True]
    assert [await replayed(touchy, request_id) for request_id in told] == before


async def test_what_was_never_asked_is_not_found(touchy: Api) -> None:
    now = time.time_ns() // 1000
    for request_id in ("x", "f" * 32, "0" * 31, new_request_id(now + DAY), new_request_id(now - 2 * HOUR)):
        status, detail = await refusal(touchy, request_id)
        assert (status, "no request of this id" in detail) == (404, True)


async def test_what_still_waits_to_be_written_is_to_be_asked_for_again(
    api_settings: Settings, shop_log: BreakableLog, tiny_models: Path
) -> None:
    slow = api_settings.model_copy(update={"served_log_flush_seconds": 40.0})
    shutil.copytree(tiny_models, slow.models_dir)
    async with running_api(slow, shop_log) as api:
        reply = await api.recommend()
        assert await refusal(api, reply["request_id"]) in [
            (404, f"it is not written yet: ask again in {seconds} s") for seconds in (41, 40, 39)
        ]


async def test_what_is_past_its_retention_is_gone(touchy: Api) -> None:
    days = touchy.service.settings.replay_days
    old = new_request_id(time.time_ns() // 1000 - (days + 1) * DAY)
    status, detail = await refusal(touchy, old)
    assert (status, f"keep {days} days" in detail) == (410, True)


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("models/v0", "the model that answered, v0, is gone: FRESHET_BUNDLES_KEPT"),
        ("replay/catalog", "of the catalog is gone"),
        ("replay/activity", "of the activity is gone"),
    ],
)
async def test_a_replay_of_which_a_part_is_gone_says_which(
    touchy: Api, shop_log: BreakableLog, lost: str, said: str
) -> None:
    await shop_log.publish_activity(published(time.time_ns() // 1000, mug=3).to_bytes())
    await touchy.service.slates.activity.look()
    reply = await touchy.recommend()
    write_all(touchy)
    assert (await replayed(touchy, reply["request_id"]))["activity_state"]
    shutil.rmtree(touchy.service.settings.home / lost)
    status, detail = await refusal(touchy, reply["request_id"])
    assert status == 410
    assert said in detail


async def test_a_slate_that_differs_is_shown_to_differ(touchy: Api) -> None:
    reply = await touchy.recommend(k=3)
    write_all(touchy)
    changed = touchy.service.settings.models_dir / "v0"
    shutil.rmtree(changed)
    write_bundle(replace(touchy_bundle("v0"), rankers=tiny_bundle().rankers), changed)
    again = await replayed(touchy, reply["request_id"])
    assert not again["same"]
    assert [item["score"] for item in again["served"]] == [item["score"] for item in reply["items"]]
    assert again["as_of"] > TRAINED_AT


@pytest.fixture
def fates(api: Api) -> Any:
    """What became of an item, for a request."""

    async def ask(item_id: str, **request: Any) -> tuple[str, str]:
        reply = await api.recommend(visitor_id="vera", **request)
        write_all(api)
        fate = (await replayed(api, reply["request_id"], item_id=item_id))["item"]
        assert fate["item_id"] == item_id
        return fate["stage"], fate["reason"]

    return ask


async def test_the_reason_of_absence_is_the_first_stage_that_lost_the_item(api: Api, fates: Any) -> None:
    assert await fates("mug", k=1) == ("shown", "it is at place 1")
    assert await fates("unheard-of") == ("unknown", "model v1 does not know it")
    assert await fates("rug") == ("unavailable", "it was not available")
    assert await fates("mug", context={"item_ids": ["mug"]}) == ("excluded", "it is what the page shows")
    assert await fates("mug", context={"cart": ["mug"]}) == ("excluded", "it is in the cart")
    await api.send(click("kettle"))
    assert await fates("kettle") == ("excluded", "the shopper's newest interaction was with it")
    stage, reason = await fates("desk", k=1)
    assert stage == "outranked"
    assert reason == "it is ranked at place 4 of 8, and the slate has 1"


async def test_a_filter_that_an_item_does_not_pass_is_named(api: Api, fates: Any) -> None:
    filters = {"category": "home", "brands": ["fern"], "max_price": 50}
    assert await fates("desk", filters=filters) == ("filtered", "it does not pass the request's category")
    assert (await fates("chair", filters=filters))[1] == (
        "it does not pass the request's category and the request's brands and the request's max_price"
    )
    page = {"item_ids": ["kettle"]}
    assert await fates("lamp", placement="substitutes", context=page) == (
        "filtered",
        "it does not pass the placement's same",
    )
    await api.send(click("desk", event_type="purchase"))
    assert await fates("chair", placement="cross_category") == (
        "filtered",
        "it does not pass the placement's beyond",
    )


async def test_an_availability_of_then_counts_not_that_of_now(api: Api) -> None:
    async def sell(*, available: bool) -> None:
        offer = {"item_id": "mug", "available": available}
        await api.client.patch("/v1/items", json={"items": [offer]})
        await api.service.catalog.look()

    await sell(available=False)
    then = await api.recommend(k=1)
    await sell(available=True)
    now = await api.recommend(k=1)
    write_all(api)
    for reply, stage in ((then, "unavailable"), (now, "shown")):
        assert (await replayed(api, reply["request_id"], item_id="mug"))["item"]["stage"] == stage


async def test_an_item_that_no_source_brings_or_the_cut_drops_is_told_so(api: Api, fates: Any) -> None:
    api.service.model.recommender.candidates = 3
    stage, reason = await fates("chair", k=1)
    assert stage == "cut"
    assert reason.startswith("the sources together had it at place ")
    assert reason.endswith(" of 10, and only the first 3 are ranked")
    asked = {"placement": "complements", "context": {"item_ids": ["lamp"]}}
    assert await fates("desk", k=1, **asked) == ("not_found", "none of the placement's sources brought it")


def test_a_source_that_was_left_out_brought_nothing() -> None:
    recommender = Recommender(tiny_bundle(), 9)
    question = Question(events=[], shopper_key=None, as_of=TRAINED_AT, k=1)
    asked = {source: Again(set(SOURCES) - {source}, Rung.RANKERS) for source in ("popular", "trending")}
    popular, trending = (
        Answer.of(recommender, question, UNKNOWN_ACTIVITY, again) for again in asked.values()
    )
    assert fate_of("desk", popular).stage == Stage.OUTRANKED
    assert fate_of("desk", trending).stage == Stage.NOT_FOUND


async def test_the_rule_that_keeps_an_item_out_is_named(
    api_settings: Settings, shop_log: BreakableLog, tmp_path: Path
) -> None:
    placements = tmp_path / "placements.yaml"
    placements.write_text(
        "capped:\n  about: One of a brand.\n  sources: everything\n  caps: {brand: 1}\n"
        + "mixed:\n  about: Unlike items.\n  sources: everything\n  diversity: 1.0\n"
        + "pinned:\n  about: One is fixed.\n  sources: everything\n  pin: {chair: 1}\n"
    )
    publish(api_settings.models_dir, tiny_bundle())
    settings = api_settings.model_copy(update={"placements": placements})
    async with running_api(settings, shop_log) as api:
        capped = await api.recommend(placement="capped", k=2)
        mixed = await api.recommend(placement="mixed", k=2)
        pinned = await api.recommend(placement="pinned", k=1)
        write_all(api)
        fate = (await replayed(api, pinned["request_id"], item_id="chair"))["item"]
        assert fate["reason"] == "it is at place 1, by the rule pin"
        fate = (await replayed(api, pinned["request_id"], item_id="mug"))["item"]
        assert fate["stage"] == "ruled_out"
        assert fate["reason"].endswith("but kept out by what is pinned")
        fate = (await replayed(api, capped["request_id"], item_id="lamp"))["item"]
        assert (fate["stage"], [item["item_id"] for item in capped["items"]]) == (
            "outranked",
            ["mug", "kettle"],
        )
        fate = (await replayed(api, mixed["request_id"], item_id="kettle"))["item"]
        assert fate["stage"] == "ruled_out"
        assert fate["reason"] == "it is ranked at place 2 of 9, but kept out by the diversity of 1"


async def test_of_given_items_the_others_were_not_given(api: Api) -> None:
    reply = (await api.client.post("/v1/rerank", json={"items": ["desk", "rug"]})).json()
    write_all(api)
    for item_id, stage in (("mug", "not_given"), ("rug", "shown")):
        assert (await replayed(api, reply["request_id"], item_id=item_id))["item"]["stage"] == stage
