"""Places of the shop: declared in YAML, checked as a whole, each with slates of its own."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from feature_repo.errors import InputError
from feature_repo.schema import DAY, HOUR
from feature_repo.settings import Settings
from serving.placements import HOME, SHIPPED, placements_of, read_placements
from serving.plan import EVERYTHING, Boost, Exploration, Fatigue, Share
from serving.selector import Selector
from tests.serving.conftest import Api, Fields, click, item_ids
from tests.serving.shelf import HOME_ONLY, declared, shop_with_shelf
from tests.tiny_bundle import BOUGHT_TOGETHER, CATEGORY_OF, NAMES, TRENDING


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            f"{HOME_ONLY}shelf:\n  about: x\n  sources: {{popula: {{quota: 1}}}}\n",
            "line 6: .*no source popula",
        ),
        (
            f"{HOME_ONLY}shelf:\n  about: x\n  sources:\n    popular:\n      quota: many\n",
            "line 8: shelf.sources.popular.quota: .*integer",
        ),
        (f"{HOME_ONLY}shelf:\n  sources: everything\n", "line 4: shelf.about: Field required"),
        (f"{HOME_ONLY}  colour: red\n", "line 4: home.colour: Extra inputs"),
        (f"{HOME_ONLY}  rank: chance\n", "line 4: home.rank: Input should be 'rankers', 'sources' or 'both'"),
        (f"{HOME_ONLY}{HOME_ONLY}", "line 4: home stands twice"),
        (
            f"{HOME_ONLY}  boost:\n    - {{factor: 2, brands: [a]}}\n    - {{factor: -1, brands: [a]}}\n",
            "line 6: home.boost.1",
        ),
        (
            f"{HOME_ONLY}  boost:\n    - factor: 2\n",
            "line 5: home.boost.0: .*say which items: by categories, brands",
        ),
        (f"{HOME_ONLY}  boost:\n    - brands: [fern]\n", "line 5: home.boost.0.factor: Field required"),
        (
            f"{HOME_ONLY}  pin:\n    mug: 1\n    lamp: 0\n",
            "line 6: home.pin.lamp: .*greater than or equal to 1",
        ),
        (
            f"{HOME_ONLY}  pin:\n    mug: 2\n    lamp: 2\n",
            "line 4: home.pin: .*place 2 is given to two items",
        ),
        (f"{HOME_ONLY}  filter:\n    max_price: cheap\n", "line 5: home.filter.max_price: .*valid number"),
        (f"{HOME_ONLY}  filter: {{min_price: 3, max_price: 2}}\n", "line 4: home.filter: .*no price is"),
        (f"{HOME_ONLY}  filter: {{}}\n", "line 4: home.filter: .*say which items"),
        (f"{HOME_ONLY}  fatigue: {{weight: 2, half_life_hours: 1}}\n", "line 4: home.fatigue.weight"),
        (f"{HOME_ONLY}  fatigue: {{weight: 1}}\n", "line 4: home.fatigue.half_life_hours: Field required"),
        (f"{HOME_ONLY}  explore:\n    slots: []\n    newer_than_days: 3\n", "line 5: home.explore.slots"),
        (
            f"{HOME_ONLY}  explore: {{slots: [1], newer_than_days: 1, temperature: 0}}\n",
            "temperature: .*greater than 0",
        ),
        (
            f"{HOME_ONLY}  caps: {{seller: 2}}\n",
            "line 4: home.caps.seller: .*'category', 'department' or 'brand'",
        ),
        ("home: [\n", "line 2: "),
        ("", "line 1: .*dictionary"),
        (f"{HOME_ONLY}My Shelf:\n  about: x\n  sources: everything\n", "line 4: My Shelf"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=complaint):
        read_placements(declared(tmp_path, text))


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_placements(Path("nowhere.yaml"))


def test_a_placement_is_added_by_declaring_it(tmp_path: Path) -> None:
    shelf = "shelf:\n  about: x\n  sources:\n    popular: {quota: 7}\n    trending: {quota: 3, weight: 0.5}\n"
    placements = placements_of(declared(tmp_path, shelf))
    assert set(placements) == {*read_placements(SHIPPED), "shelf"}
    assert placements["shelf"].plan(None).mixture == {"popular": Share(7, 1.0), "trending": Share(3, 0.5)}


def test_a_placement_of_ones_own_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    placements = placements_of(declared(tmp_path, HOME_ONLY))
    assert placements[HOME].about == "anything"
    assert set(placements) == set(placements_of(None)) == set(read_placements(SHIPPED))


def test_rules_are_declared_in_words_for_people(tmp_path: Path) -> None:
    shelf = """shelf:
  about: x
  sources: everything
  filter: {categories: [home, office], min_price: 5}
  boost:
    - {factor: 2, brands: [fern]}
    - {factor: 0.1, item_ids: [mug], max_price: 20, min_margin: 0.2}
  fatigue: {weight: 0.5, half_life_hours: 12}
  explore: {slots: [10, 5], newer_than_days: 7}
  pin: {lamp: 1, desk: 3}
"""
    plan = read_placements(declared(tmp_path, shelf))["shelf"].plan(0.25)
    assert plan.allowed == Selector(categories=["home", "office"], min_price=5)
    assert plan.boosts == [
        Boost(2, Selector(brands=["fern"])),
        Boost(0.1, Selector(item_ids=["mug"], max_price=20, min_margin=0.2)),
    ]
    assert plan.fatigue == Fatigue(0.5, 12 * HOUR)
    assert plan.exploration == Exploration([4, 9], 1.0, 7 * DAY)
    assert plan.pins == {0: "lamp", 2: "desk"}
    assert plan.diversity == 0.25


def test_what_is_shipped_is_right_and_home_asks_every_source() -> None:
    shipped = read_placements(SHIPPED)
    assert shipped[HOME].plan(None).mixture == EVERYTHING
    assert {"item", "substitutes", "complements"} <= set(shipped)


def test_the_examples_of_the_documentation_are_right(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/placements.md").read_text()
    examples = "\n".join(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    assert list(read_placements(declared(tmp_path, examples))) == [HOME, "newsletter", "shelf"]


pages: list[dict[str, Any]] = [{"item_ids": ["kettle"]}, {"cart": ["kettle"]}]


@pytest.mark.anyio
@pytest.mark.parametrize("page", pages)
async def test_complements_are_what_is_bought_with_the_page_or_the_cart(api: Api, page: Any) -> None:
    slate = await api.recommend(visitor_id="vera", placement="complements", k=2, context=page)
    assert set(item_ids(slate)) == set(BOUGHT_TOGETHER["kettle"])
    assert [item["sources"] for item in slate["items"]] == [["bought_together"]] * 2


@pytest.mark.anyio
async def test_substitutes_are_of_the_category_of_the_page(api: Api) -> None:
    slate = await api.recommend(placement="substitutes", k=3, context={"item_ids": ["mug"]})
    assert {CATEGORY_OF[item] for item in item_ids(slate)} == {CATEGORY_OF["mug"]}
    assert "mug" not in item_ids(slate)


@pytest.mark.anyio
async def test_a_request_that_names_no_place_is_for_home_and_an_unknown_one_is_refused(api: Api) -> None:
    assert await api.client.post("/v1/recommendations", json={"visitor_id": "vera"})
    refused = await api.client.post("/v1/recommendations", json={"placement": "cellar"})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["field"] == "placement"
    assert "home" in refused.json()["detail"][0]["message"]


@pytest.mark.anyio
@pytest.mark.parametrize("query", ["teapot", "taepot", "TEA POT"])
async def test_a_search_finds_what_was_meant(api: Api, query: str) -> None:
    slate = await api.recommend(visitor_id="vera", placement="search", k=1, context={"query": query})
    assert item_ids(slate) == ["teapot"]
    assert slate["items"][0]["sources"] == ["text"]


def replace_home(settings: Settings, name: str) -> Settings:
    """The same settings for another home."""
    home = settings.home / name
    home.mkdir()
    return settings.model_copy(update={"home": home})


async def slate_of(settings: Settings, declaration: str, **request: Any) -> Fields:
    """The reply to a request for a placement declared like this."""
    async with shop_with_shelf(settings, declaration) as api:
        return await api.recommend(placement="shelf", **request)


@pytest.mark.anyio
async def test_a_cap_holds_on_the_page_or_the_reply_names_it(api_settings: Settings) -> None:
    capped = "  sources: {popular: {quota: 3}}\n  caps: {category: 2}\n"
    slate = await slate_of(api_settings, capped, k=5)
    counts = Counter(CATEGORY_OF[item] for item in item_ids(slate))
    assert max(counts.values()) == 2
    assert slate["relaxed"] == []


@pytest.mark.anyio
async def test_a_cap_that_cannot_be_kept_is_named(api_settings: Settings) -> None:
    capped = "  sources: everything\n  caps: {category: 2}\n"
    slate = await slate_of(api_settings, capped, k=9)
    assert len(slate["items"]) == 9
    assert slate["relaxed"] == ["category"]


@pytest.mark.anyio
async def test_where_a_placement_fills_up_with_nothing_the_slate_is_shorter(api_settings: Settings) -> None:
    slate = await slate_of(api_settings, "  sources: {trending: {quota: 3}}\n  fill: nothing\n", k=9)
    assert set(item_ids(slate)) == set(TRENDING)


@pytest.mark.anyio
async def test_a_request_may_ask_for_another_diversity_than_the_placement(api_settings: Settings) -> None:
    diverse = "  sources: everything\n  diversity: 1\n"
    of_request = "  sources: everything\n"
    first, second = (replace_home(api_settings, name) for name in ("first", "second"))
    of_placement = item_ids(await slate_of(first, diverse, k=4))
    assert of_placement != item_ids(await slate_of(second, of_request, k=4))
    assert of_placement == item_ids(
        await slate_of(replace_home(api_settings, "third"), of_request, k=4, diversity=1)
    )


@pytest.mark.anyio
async def test_cross_category_leaves_out_the_categories_that_the_shopper_has_bought_from(api: Api) -> None:
    await api.send(click("desk"), click("kettle", event_type="purchase"))
    slate = item_ids(await api.recommend(visitor_id="vera", placement="cross_category", k=4))
    assert "chair" in slate
    assert CATEGORY_OF["kettle"] not in {CATEGORY_OF[item] for item in slate}


@pytest.mark.anyio
async def test_what_is_in_the_cart_counts_as_bought(api: Api) -> None:
    asked = {"placement": "cross_category", "k": 4, "context": {"cart": ["kettle"]}}
    slate = item_ids(await api.recommend(visitor_id="vera", **asked))
    assert slate
    assert CATEGORY_OF["kettle"] not in {CATEGORY_OF[item] for item in slate}


@pytest.mark.anyio
async def test_what_a_user_bought_long_ago_counts_as_bought(api: Api) -> None:
    bundle = api.service.model.recommender.bundle
    user = bundle.shopper_keys[0]
    history = bundle.histories.of(0)
    bought = {CATEGORY_OF[NAMES[item]] for item in history.items[history.purchases > 0]}
    assert bought
    slate = await api.recommend(user_id=user.removeprefix("u:"), placement="cross_category", k=4)
    assert slate["items"]
    assert not bought & {CATEGORY_OF[item] for item in item_ids(slate)}
