"""The stages as one: slates of a shop of forty items, and what holds for every question."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.ranking_features import RANKING_COLUMNS
from feature_repo.schema import MINUTE
from feature_repo.session_window import WindowEvent
from serving.bundle import Bundle
from serving.bundle_files import read_bundle, write_bundle
from serving.in_time.attempt import Unhurried
from serving.plan import Plan
from serving.query import Filters, Question, Slate
from serving.ranking import Rankers, rank
from serving.recommender import Recommender
from serving.reranking import likeness_vectors
from tests.serving.forty_items import CANDIDATES, NOW, SHOP, answers, questions, shop, shown
from tests.tiny_bundle import NAMES, tiny_bundle


def tiny_slate(*history: str, bundle: Bundle | None = None, **question: Any) -> list[str]:
    """Names of the tiny shop's slate for a stranger who viewed these items."""
    events = [
        WindowEvent(NOW - (len(history) - number) * MINUTE, f"e{number}", "view", name)
        for number, name in enumerate(history)
    ]
    asked = Question(events=events, shopper_key=None, as_of=NOW, **question)
    bundle = bundle or tiny_bundle()
    [slate] = Recommender(bundle, CANDIDATES).recommend([asked.encode(bundle)])
    return [NAMES[item] for item in slate.items]


def assert_same(slates: list[Slate], others: list[Slate]) -> None:
    """Equal to the last bit, in everything that a slate holds."""
    for slate, other in zip(slates, others, strict=True):
        np.testing.assert_array_equal(slate.items, other.items)
        np.testing.assert_array_equal(slate.scores, other.scores)
        np.testing.assert_array_equal(slate.features, other.features)
        np.testing.assert_array_equal(slate.candidates.items, other.candidates.items)
        np.testing.assert_array_equal(slate.candidates.fused, other.candidates.fused)
        assert slate.filled == other.filled


@settings(deadline=None, max_examples=40)
@given(st.lists(questions(), max_size=5))
def test_many_questions_at_once_are_answered_like_each_alone(asked: list[Question]) -> None:
    assert_same(answers(shop(), *asked), [slate for question in asked for slate in answers(shop(), question)])


@settings(deadline=None)
@given(questions())
def test_a_slate_is_full_while_the_shop_has_items_that_may_be_shown(asked: Question) -> None:
    [slate] = answers(shop(), asked)
    names = shop().item_ids[slate.items].tolist()
    allowed = shown(asked)
    assert set(names) <= set(allowed)
    assert len(set(names)) == len(names) == min(asked.k, len(allowed))


@settings(deadline=None)
@given(questions())
def test_scores_fall_and_what_was_filled_up_stands_last(asked: Question) -> None:
    [slate] = answers(shop(), asked)
    assert slate.items.size == slate.scores.size
    assert (np.diff(slate.scores) <= 0).all()
    assert slate.filled == max(slate.items.size - slate.candidates.items.size, 0)
    ranked = slate.items[: slate.items.size - slate.filled]
    assert set(ranked.tolist()) <= set(slate.candidates.items.tolist())
    assert not set(slate.items[ranked.size :].tolist()) & set(slate.candidates.items.tolist())


@settings(deadline=None)
@given(questions())
def test_the_slate_is_the_rankers_order_of_the_candidates(asked: Question) -> None:
    [slate] = answers(shop(), asked)
    assert slate.features.shape == (slate.candidates.items.size, len(RANKING_COLUMNS))
    scores = rank(shop().rankers, slate.features)
    best = np.lexsort((slate.candidates.items, -scores))[: asked.k]
    np.testing.assert_array_equal(slate.items[: best.size], slate.candidates.items[best])
    np.testing.assert_array_equal(slate.scores[: best.size], scores[best])


@settings(deadline=None, max_examples=25)
@given(asked=st.lists(questions(), min_size=1, max_size=4))
def test_a_bundle_from_disk_gives_the_same_slates(written: Bundle, asked: list[Question]) -> None:
    assert_same(answers(shop(), *asked), answers(written, *asked))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The shop's bundle, after it was written and read."""
    directory: Path = tmp_path_factory.mktemp("models") / "v1"
    write_bundle(shop(), directory)
    return read_bundle(directory)


@settings(deadline=None, max_examples=25)
@given(questions())
def test_a_slate_is_the_same_every_time(asked: Question) -> None:
    assert_same(answers(shop(), asked), answers(shop(), asked))


@settings(deadline=None, max_examples=25)
@given(questions())
def test_a_longer_slate_begins_with_the_shorter(asked: Question) -> None:
    [slate], [longer] = answers(shop(), asked), answers(shop(), replace(asked, k=asked.k + 3))
    np.testing.assert_array_equal(longer.items[: slate.items.size], slate.items)


def test_no_questions_have_no_answers() -> None:
    assert answers(shop()) == []


def test_a_click_turns_the_slate() -> None:
    assert tiny_slate(k=2) == ["mug", "kettle"]
    assert tiny_slate("kettle", k=2) == ["teapot", "mug"]
    assert tiny_slate("kettle", "lamp", k=2) == ["bulb", "shade"]


def test_the_page_steers_the_slate_and_is_not_in_it() -> None:
    assert tiny_slate("kettle", k=2, context_items=["lamp"]) == ["bulb", "shade"]
    assert tiny_slate("kettle", k=2, cart=["lamp"]) == ["bulb", "shade"]
    everything = tiny_slate("kettle", k=20, cart=["lamp"], context_items=["mug"])
    assert not {"lamp", "mug", "kettle"} & set(everything)


def test_the_item_just_seen_comes_again_only_on_request() -> None:
    assert "kettle" not in tiny_slate("kettle", k=20)
    assert "kettle" in tiny_slate("kettle", k=20, repeat_last=True)
    assert "desk" in tiny_slate("desk", "kettle", k=20)


def test_what_is_sold_out_is_never_shown_not_even_to_fill_up() -> None:
    assert "rug" not in tiny_slate("desk", "chair", k=20)
    assert tiny_slate("desk", k=20, filters=Filters(category="office")) == ["chair"]


def test_a_category_holds_all_below_it_and_nothing_that_only_begins_alike() -> None:
    bundle = replace(tiny_bundle(), categories=["home", "home > light", "homeware"])
    home = tiny_slate(k=20, bundle=bundle, filters=Filters(category="home"))
    assert set(home) == {"mug", "kettle", "teapot", "tray", "lamp", "bulb", "shade"}
    assert set(tiny_slate(k=20, bundle=bundle, filters=Filters(category="homeware"))) == {"desk", "chair"}


def test_without_a_ranker_the_order_of_the_sources_stands() -> None:
    bundle = replace(shop(), rankers=Rankers(None, None))
    asked = Question(
        events=[WindowEvent(NOW - MINUTE, "e1", "view", SHOP[1])], shopper_key=None, as_of=NOW, k=5
    )
    [slate] = answers(bundle, asked)
    np.testing.assert_array_equal(slate.items, slate.candidates.items[:5])
    np.testing.assert_array_equal(slate.scores, np.log(slate.candidates.fused[:5]))


def test_unknown_shoppers_are_folded_in_and_known_ones_are_not() -> None:
    bundle = shop()
    events = [WindowEvent(NOW - MINUTE, "e1", "view", SHOP[3])]
    unknown = Question(events=events, shopper_key="u:nobody", as_of=NOW).encode(bundle)
    known = Question(events=events, shopper_key="u:s1", as_of=NOW).encode(bundle)
    np.testing.assert_allclose(
        unknown.shopper.user.embedding, bundle.tower.embeddings[3], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(
        known.shopper.user.embedding, bundle.users.embeddings[bundle.shopper_index["u:s1"]]
    )


def test_each_stage_is_measured_once_per_call_in_the_order_of_the_work() -> None:
    names: list[str] = []

    class Noting(Unhurried):
        def begin(self, stage: str) -> None:
            names.append(stage)

        def end(self) -> None:
            names.append("end")

    query = Question(events=[], shopper_key=None, as_of=NOW).encode(shop())
    Recommender(shop(), CANDIDATES).recommend([query, query], Noting())
    assert names == ["encode", "retrieve", "filter", "features", "rank", "rerank", "end"]


@settings(deadline=None, max_examples=40)
@given(questions(), st.floats(0, 1))
def test_a_diverse_slate_is_as_full_and_begins_with_the_best(asked: Question, dial: float) -> None:
    [slate], [diverse] = answers(shop(), asked), answers(shop(), replace(asked, plan=Plan(diversity=dial)))
    assert diverse.items.size == slate.items.size == len(set(diverse.items.tolist()))
    np.testing.assert_array_equal(diverse.items[:1], slate.items[:1])
    assert set(shop().item_ids[diverse.items].tolist()) <= set(shown(asked))
    scored = dict(zip(diverse.candidates.items, rank(shop().rankers, diverse.features), strict=True))
    ranked = np.isin(diverse.items, diverse.candidates.items)
    assert diverse.scores[ranked].tolist() == [scored[item] for item in diverse.items[ranked]]
    assert (diverse.scores[~ranked] < diverse.scores[ranked].min(initial=np.inf)).all()


def test_the_more_diverse_the_less_alike_are_the_items() -> None:
    asked = Question(events=[], shopper_key=None, as_of=NOW, k=8)

    def likeness(dial: float) -> float:
        [slate] = answers(shop(), replace(asked, plan=Plan(diversity=dial)))
        content, learned = shop().items.content[slate.items], shop().tower.embeddings[slate.items]
        vectors = likeness_vectors(content, learned)
        return float(np.square(vectors.sum(axis=0)).sum())

    assert likeness(1) <= likeness(0.5) < likeness(0)
