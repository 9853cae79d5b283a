"""Any mixture of rules over the whole recommender: what must hold holds on every page, and nothing is lost."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.schema import CATEGORY_SEPARATOR, DAY, HOUR, MINUTE, Item
from feature_repo.session_window import WindowEvent
from serving.bundle import NOT_YET, Bundle
from serving.composition import Ranked, compose
from serving.plan import EVERYTHING, Boost, Exploration, Fatigue, FilledBy, Group, Plan, RankedBy, Rule
from serving.query import Filters, Question, Slate
from serving.recommender import Recommender
from serving.reranking import DiversityKind
from serving.selector import Selector
from tests.serving.forty_items import CANDIDATES, CATEGORIES, NOW, SHOP, SHOPPERS, answers, shop, shown
from tests.tiny_bundle import NAMES, price_of, tiny_bundle

BRANDS = [f"brand {number}" for number in range(3)]
LESS = 12
"""Items that the other model does not know."""

RARELY, SOMETIMES = 0.15, 0.5
GROUPS: tuple[Group, ...] = ("category", "department", "brand")


class Chance:
    """All that is left to chance in a question: of one seed, so that mixtures differ more than shrinking likes."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def often(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def some(self, names: Sequence[str], most: int) -> list[str]:
        size = int(self.random.integers(1, most + 1))
        return self.random.choice(np.array(names), min(size, len(names)), replace=False).tolist()

    def number(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def places(self, most: int) -> list[int]:
        return sorted(self.random.choice(12, self.random.integers(1, most + 1), replace=False).tolist())

    def selector(self, share: float) -> Selector:
        """Each of its parts is said with this probability."""
        return Selector(
            categories=self.some(["home", *CATEGORIES], 3) if self.often(share) else None,
            brands=self.some(BRANDS, 2) if self.often(share) else None,
            item_ids=self.some(SHOP, 25) if self.often(share) else None,
            min_price=self.number(0, 20) if self.often(share) else None,
            max_price=self.number(15, 40) if self.often(share) else None,
            min_margin=self.number(0, 0.2) if self.often(share) else None,
        )

    def plan(self) -> Plan:
        """Any mixture of rules."""
        pinned = self.some([*SHOP, "unheard of"], 3) if self.often(SOMETIMES) else []
        exploration = Exploration(self.places(4), self.number(0.05, 5), int(self.number(1, 50) * DAY))
        sources = self.some(sorted(EVERYTHING), 5)
        return Plan(
            mixture={name: EVERYTHING[name] for name in sources} if self.often(SOMETIMES) else EVERYTHING,
            ranked_by=list(RankedBy)[self.random.integers(len(RankedBy))],
            filled_by=FilledBy.POPULAR if self.often(SOMETIMES) else FilledBy.NOTHING,
            allowed=self.selector(RARELY),
            boosts=[Boost(self.number(0, 3), self.selector(RARELY)) for _ in range(self.random.integers(3))],
            fatigue=Fatigue(self.number(0, 1), DAY) if self.often(SOMETIMES) else None,
            exploration=exploration if self.often(SOMETIMES) else None,
            pins=dict(zip(self.random.choice(12, 3, replace=False).tolist(), pinned, strict=False)),
            caps={group: int(self.random.integers(1, 4)) for group in GROUPS if self.often(SOMETIMES)},
            diversity=self.number(0, 1) if self.often(SOMETIMES) else 0.0,
            diversity_kind=list(DiversityKind)[self.random.integers(len(DiversityKind))],
        )

    def question(self) -> Question:
        """Of anybody, with any rules."""
        seen = self.some([*SHOP, "unheard of"], 5)
        return Question(
            events=[WindowEvent(NOW - 9 + at, f"e{at}", "click", name) for at, name in enumerate(seen)],
            shopper_key=f"u:s{self.random.integers(2 * SHOPPERS)}",
            as_of=NOW,
            k=int(self.random.integers(1, 12)),
            context_items=self.some(SHOP, 2) if self.often(SOMETIMES) else [],
            filters=Filters(max_price=self.number(10, 40)) if self.often(RARELY) else Filters(),
            repeat_last=self.often(SOMETIMES),
            plan=self.plan(),
            exposures={name: NOW - int(self.number(0, 3) * DAY) for name in self.some(SHOP, 10)},
            seed=int(self.random.integers(2**62)),
        )


any_question = st.integers(0, 2**32 - 1).map(lambda seed: Chance(seed).question())
anything = settings(deadline=None, max_examples=50)


class Page(NamedTuple):
    """One page of a listing, the question that it answers, and the model that made it."""

    asked: Question
    slate: Slate
    bundle: Bundle

    @property
    def names(self) -> list[str]:
        return self.bundle.item_ids[self.slate.items].tolist()


def listing(asked: Question, bundles: Sequence[Bundle]) -> Iterator[Page]:
    """Page after page to the end, from one model after the other."""
    for number in range(2 * len(SHOP)):
        bundle = bundles[number % len(bundles)]
        [slate] = answers(bundle, asked)
        page = Page(asked, slate, bundle)
        yield page
        if not slate.more:
            return
        asked = replace(asked, shown=[*asked.shown, *page.names])
    raise AssertionError("the listing does not end")


def meets(selector: Selector, row: dict[str, Any], price: float | None) -> bool:
    """Whether a row of the catalog is all that a selector says, by its words alone."""
    category, margin = row[Item.CATEGORY] or "", row[Item.MARGIN]
    paths = selector.categories
    return (
        (paths is None or any(category == p or category.startswith(p + CATEGORY_SEPARATOR) for p in paths))
        and (selector.brands is None or row[Item.BRAND] in selector.brands)
        and (selector.item_ids is None or row[Item.ID] in selector.item_ids)
        and (selector.min_price is None or (price is not None and price >= selector.min_price))
        and (selector.max_price is None or (price is not None and price <= selector.max_price))
        and (selector.min_margin is None or (margin is not None and margin >= selector.min_margin))
    )


def may_be_shown(asked: Question, bundle: Bundle) -> set[str]:
    """What filters, availability and earlier pages leave."""
    known = zip(bundle.items.price.tolist(), bundle.items.price_missing.tolist(), strict=True)
    prices = [None if missing else price for price, missing in known]
    price_of_item = dict(zip(bundle.item_ids, prices, strict=True))
    rows = {row[Item.ID]: row for row in bundle.catalog.to_pylist()}
    return {
        name
        for name in shown(asked)
        if name in rows and meets(asked.plan.allowed, rows[name], price_of_item[name])
    } - set(asked.shown)


def broken_caps(page: Page) -> list[str]:
    """The caps that a page does not keep, by counting."""
    broken: list[str] = []
    for group, most in page.asked.plan.caps.items():
        counts = Counter(getattr(page.bundle.items, group)[page.slate.items].tolist())
        counts.pop(-1, None)
        if max(counts.values(), default=0) > most:
            broken.append(group)
    return broken


@anything
@given(any_question)
def test_no_page_breaks_a_filter_or_a_cap_unless_it_says_so(asked: Question) -> None:
    for page in listing(asked, [shop()]):
        assert set(page.names) <= may_be_shown(page.asked, page.bundle)
        assert [rule for rule in page.slate.relaxed if rule != Rule.PIN] == broken_caps(page)


@anything
@given(any_question)
def test_a_listing_repeats_nothing_also_when_models_change(asked: Question) -> None:
    names = [name for page in listing(asked, [shop(), shop(LESS)]) for name in page.names]
    assert len(names) == len(set(names))


@anything
@given(any_question)
def test_where_popularity_fills_up_a_listing_shows_all_that_may_be_shown(asked: Question) -> None:
    asked = replace(asked, plan=replace(asked.plan, filled_by=FilledBy.POPULAR))
    left = may_be_shown(asked, shop())
    for page in listing(asked, [shop()]):
        assert len(page.names) == min(asked.k, len(left))
        left -= set(page.names)
        assert page.slate.more == bool(left)
    assert not left


@anything
@given(any_question)
def test_no_rule_loses_a_candidate(asked: Question) -> None:
    asked = replace(asked, plan=replace(asked.plan, filled_by=FilledBy.NOTHING))
    plan = asked.plan
    bare = Plan(plan.mixture, plan.ranked_by, plan.filled_by, allowed=plan.allowed)
    [candidates] = answers(shop(), replace(asked, plan=bare, k=len(SHOP)))
    names, by_rule = set(), set()
    for page in listing(asked, [shop()]):
        names |= set(page.names)
        by_rule |= {name for name, rule in zip(page.names, page.slate.placed_by, strict=True) if rule}
    found = set(shop().item_ids[candidates.items])
    assert found <= names
    assert names - found <= by_rule


@anything
@given(any_question)
def test_a_pin_holds_its_place_or_the_page_names_it(asked: Question) -> None:
    first = 0
    for page in listing(asked, [shop()]):
        wanted = {
            place - first: name
            for place, name in asked.plan.pins.items()
            if first <= place < first + asked.k and name not in page.asked.shown
        }
        at = dict(enumerate(page.names))
        missed = {place for place, name in wanted.items() if at.get(place) != name}
        assert (Rule.PIN in page.slate.relaxed) == bool(missed)
        allowed = may_be_shown(page.asked, page.bundle)
        assert all(wanted[place] not in allowed or place >= len(at) for place in missed)
        first += len(page.names)


@anything
@given(any_question)
def test_only_new_items_are_drawn_each_for_a_place_of_its_own_with_a_chance(asked: Question) -> None:
    first = 0
    for page in listing(asked, [shop()]):
        slate, exploration = page.slate, asked.plan.exploration
        assert ((slate.propensity > 0) & (slate.propensity <= 1)).all()
        assert all(
            rule == Rule.EXPLORE or chance == 1
            for rule, chance in zip(slate.placed_by, slate.propensity, strict=True)
        )
        drawn = [place for place, rule in enumerate(slate.placed_by) if rule == Rule.EXPLORE]
        slots = {place - first for place in exploration.places} if exploration else set()
        assert set(drawn) <= slots
        if exploration:
            arrived = page.bundle.arrived[slate.items[drawn]]
            assert (arrived > asked.as_of - exploration.newer_than).all()
        first += len(page.names)


@anything
@given(any_question)
def test_the_same_question_draws_the_same(asked: Question) -> None:
    [once], [again] = answers(shop(), asked), answers(shop(), asked)
    np.testing.assert_array_equal(once.items, again.items)
    np.testing.assert_array_equal(once.propensity, again.propensity)
    assert (once.placed_by, once.relaxed) == (again.placed_by, again.relaxed)


@pytest.mark.parametrize("rules", [{}, {"pins": {1: SHOP[2]}, "caps": {"brand": 2}, "diversity": 0.7}])
@pytest.mark.parametrize("ranked_by", RankedBy)
def test_new_items_are_drawn_as_often_as_their_propensity_says(ranked_by: RankedBy, rules: Any) -> None:
    draws, bundle = 1500, shop()
    plan = Plan(ranked_by=ranked_by, exploration=Exploration([1, 4], 10.0, 12 * DAY), **rules)
    query = Question(events=[], shopper_key=None, as_of=NOW, k=6, plan=plan).encode(bundle)
    recommender = Recommender(bundle, CANDIDATES)
    interest = recommender.encode(query)
    candidates = recommender.filter(recommender.retrieve(query, interest), query)
    features = recommender.features(candidates, query, interest)
    [scores] = recommender.rank([query], [candidates], [features])
    often, told = np.zeros(len(SHOP)), np.zeros(len(SHOP))
    for seed in range(draws):
        slate = compose(bundle, replace(query, seed=seed), Ranked(candidates, features, scores))
        drawn = [rule == Rule.EXPLORE for rule in slate.placed_by]
        often[slate.items[drawn]] += 1 / draws
        told[slate.items[drawn]] = slate.propensity[drawn]
    np.testing.assert_allclose(often, told, atol=0.055)
    assert np.count_nonzero(told) > 3
    assert told.sum() == pytest.approx(1 if rules else 2, abs=0.01)


def tiny(*history: str, **question: Any) -> Slate:
    """A slate of the tiny shop for who viewed these items a minute ago."""
    events = [WindowEvent(NOW - MINUTE, f"e{number}", "view", name) for number, name in enumerate(history)]
    asked = Question(**{"events": events, "shopper_key": None, "as_of": NOW, **question})
    [slate] = answers(tiny_bundle(), asked)
    return slate


def names(slate: Slate) -> list[str]:
    return [NAMES[item] for item in slate.items]


def test_a_boost_lifts_and_a_bury_sends_to_the_end_but_does_not_lose() -> None:
    assert names(tiny(k=4)) == ["mug", "kettle", "lamp", "desk"]
    lifted = Plan(boosts=[Boost(1e6, Selector(item_ids=["desk"]))])
    assert names(tiny(k=4, plan=lifted)) == ["desk", "mug", "kettle", "lamp"]
    buried = Plan(boosts=[Boost(0, Selector(categories=["home > kitchen"]))])
    everything = names(tiny(k=20, plan=buried))
    assert set(everything[-4:]) == {"mug", "kettle", "teapot", "tray"}
    assert len(everything) == len(NAMES) - 1  # the rug is sold out


@pytest.mark.parametrize("ranked_by", RankedBy)
def test_a_boost_multiplies_the_odds_whoever_orders(ranked_by: RankedBy) -> None:
    """By a tenth more, only neighbours change places; the score that is told stays that of the order before."""
    bundle = shop()
    asked = Question(events=[], shopper_key=None, as_of=NOW, k=8, plan=Plan(ranked_by=ranked_by))
    [plain] = answers(bundle, asked)
    last = str(bundle.item_ids[plain.items[-1]])
    lifted = replace(asked.plan, boosts=[Boost(1.1, Selector(item_ids=[last]))])
    [slate] = answers(bundle, replace(asked, plan=lifted))
    score = float(plain.scores[-1])
    odds = plain.candidates.fused if ranked_by == RankedBy.SOURCES else np.exp(plain.scores)
    expected = np.count_nonzero(odds > 1.1 * odds[asked.k - 1])
    assert bundle.item_ids[slate.items].tolist().index(last) == expected
    assert float(slate.scores[expected]) == score


def test_what_was_shown_in_vain_sinks_and_what_was_turned_to_since_does_not() -> None:
    tired = Plan(fatigue=Fatigue(1.0, HOUR))
    exposures = {"mug": NOW - 1, "kettle": NOW - 3 * MINUTE, "unheard of": NOW}
    assert names(tiny(k=8, plan=tired, exposures=exposures))[:1] == ["lamp"]
    everything = names(tiny(k=20, plan=tired, exposures=exposures))
    assert everything[-1] == "mug"
    assert everything.index("kettle") > everything.index("lamp")
    seen_since = tiny("kettle", "desk", k=9, plan=tired, exposures=exposures)
    assert names(seen_since)[:3] == ["chair", "kettle", "lamp"]
    assert names(seen_since)[-1] == "mug"
    assert names(tiny(k=2, exposures=exposures)) == ["mug", "kettle"]  # who declares no fatigue feels none


def test_a_pin_that_may_not_be_shown_is_left_out_and_named() -> None:
    plan = Plan(pins={0: "desk", 1: "rug", 3: "unheard of"})  # the rug is sold out
    slate = tiny(k=4, plan=plan)
    assert names(slate) == ["desk", "mug", "kettle", "lamp"]
    assert slate.relaxed == (Rule.PIN,)
    assert slate.placed_by == (Rule.PIN, None, None, None)
    assert tiny(k=1, plan=plan).relaxed == ()


def test_a_pin_goes_before_a_cap_and_filters_before_both() -> None:
    plan = Plan(pins={0: "mug", 1: "teapot"}, caps={"category": 1})
    slate = tiny(k=3, plan=plan)
    assert names(slate) == ["mug", "teapot", "lamp"]
    assert slate.relaxed == ("category",)
    dear = Selector(min_price=price_of("teapot"))
    slate = tiny(k=2, plan=replace(plan, allowed=dear))
    assert (names(slate)[1], slate.relaxed) == ("teapot", (Rule.PIN,))
    assert "mug" not in names(slate)


def test_a_pin_further_down_holds_its_place_on_its_page() -> None:
    asked = Question(events=[], shopper_key=None, as_of=NOW, k=2, plan=Plan(pins={3: "tray"}))
    pages = [page.names for page in listing(asked, [tiny_bundle()])]
    assert pages[1][1] == "tray"
    assert len([name for page in pages for name in page]) == len(NAMES) - 1


def test_a_pin_that_came_by_its_merit_on_an_earlier_page_is_not_missing() -> None:
    asked = Question(events=[], shopper_key=None, as_of=NOW, k=2, plan=Plan(pins={3: "mug"}))
    first, second, *_ = listing(asked, [tiny_bundle()])
    assert first.names[0] == "mug"
    assert (second.slate.relaxed, second.slate.placed_by) == ((), (None, None))


def test_an_item_is_new_by_the_catalog_or_else_since_it_was_first_met() -> None:
    bundle = tiny_bundle()
    first_seen = bundle.items.first_seen.copy()
    first_seen[[1, 2]] = -1
    dates = pa.array([None, None, NOW - DAY, *[None] * 7], pa.timestamp("us", tz="UTC"))
    at = bundle.catalog.column_names.index(Item.CREATED_AT)
    catalog = bundle.catalog.set_column(at, bundle.catalog.schema.field(at), dates)
    aged = replace(bundle, catalog=catalog, items=replace(bundle.items, first_seen=first_seen))
    assert aged.arrived[:4].tolist() == [first_seen[0], NOT_YET, NOW - DAY, first_seen[3]]
    assert aged.newest[:2].tolist() == [1, 2]


def test_a_new_item_that_no_source_brings_can_be_drawn_and_else_does_not_come() -> None:
    bundle = tiny_bundle()
    first_seen = bundle.items.first_seen.copy()
    first_seen[[NAMES.index("bulb"), NAMES.index("shade")]] = NOW
    new = replace(bundle, items=replace(bundle.items, first_seen=first_seen))
    mixture = {"bought_together": EVERYTHING["bought_together"]}
    exploration = Exploration([1], 1e6, DAY)
    plan = Plan(mixture, RankedBy.SOURCES, FilledBy.NOTHING, exploration=exploration)
    drawn = set()
    for seed in range(20):
        asked = Question(
            events=[], shopper_key=None, as_of=NOW, plan=plan, context_items=["kettle"], seed=seed
        )
        [slate] = answers(new, asked)
        assert names(slate)[::2] == ["tray", "mug"]
        assert slate.placed_by == (None, Rule.EXPLORE, None)
        assert slate.propensity.tolist() == pytest.approx([1, 0.5, 1], abs=1e-3)
        drawn.add(names(slate)[1])
    assert drawn == {"bulb", "shade"}
    [slate] = answers(new, replace(asked, plan=replace(plan, filled_by=FilledBy.POPULAR)))
    assert len(set(names(slate))) == len(names(slate)) == 8  # also those who are drawn come once
    beyond = replace(plan, exploration=exploration._replace(places=[2]))
    [slate] = answers(new, replace(asked, plan=beyond))
    assert names(slate) == ["tray", "mug"]  # the page is too short to have that place
