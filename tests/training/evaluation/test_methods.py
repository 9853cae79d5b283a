"""A method is scored by replay, and the baselines that need no training answer as they should."""

import numpy as np
import pytest

from feature_repo.arrays import Int32
from feature_repo.schema import DAY
from serving.query import Query
from tests.tiny_bundle import NAMES, tiny_bundle
from tests.training.tiny_log import NOON, Happened, at, encoded
from training.evaluation.methods import Method, baselines, evaluate, slates
from training.evaluation.metrics import CUTOFF, NO_ITEM
from training.replay import Replay, replay


def requests(*windows: str) -> Replay:
    """A request for each "item item target", all of different shoppers."""
    log = [
        Happened(f"s{number}", item, minute)
        for number, window in enumerate(windows)
        for minute, item in enumerate(window.split())
    ]
    found = replay(encoded(log), NOON, at(10**6), 64, 90 * DAY)
    newest = {shopper: row for row, shopper in enumerate(found.shopper)}
    return found.take(np.array([newest[shopper] for shopper in range(len(windows))]))


def always(*names: str) -> Method:
    items = np.array([NAMES.index(name) for name in names], np.int32)
    return lambda queries: [items for _ in queries]


def test_a_method_is_scored_by_where_it_places_the_target() -> None:
    found = requests("kettle lamp", "kettle mug", "kettle tray", "kettle unknown")
    scores = evaluate(found, tiny_bundle(), always("lamp", "desk", "mug"), "fixed")
    assert scores.requests == 4
    assert scores.mrr_at_20.mean == pytest.approx((1 + 1 / 3) / 4)
    assert scores.recall_at_20.mean == pytest.approx(2 / 4)


def test_slates_stand_in_the_order_of_the_requests() -> None:
    def newest_item(queries: list[Query]) -> list[Int32]:
        return [query.shopper.window.items[-1:] for query in queries]

    found = slates(requests("kettle lamp", "mug lamp"), tiny_bundle(), newest_item, "newest")
    assert found.shape == (2, CUTOFF)
    assert found[:, 0].tolist() == [NAMES.index("kettle"), NAMES.index("mug")]
    assert (found[:, 1:] == NO_ITEM).all()


def test_popularity_answers_with_the_most_popular_that_may_be_shown() -> None:
    bundle = tiny_bundle()
    [query] = requests("mug lamp").queries(bundle, k=3)
    assert [NAMES[item] for item in baselines(bundle)["popularity"]([query])[0]] == ["kettle", "lamp", "desk"]


def test_covisitation_answers_with_neighbours_and_then_with_the_popular() -> None:
    bundle = tiny_bundle()
    [query] = requests("kettle lamp").queries(bundle, k=4)
    answer = [NAMES[item] for item in baselines(bundle)["covisitation"]([query])[0]]
    assert answer == ["teapot", "mug", "lamp", "desk"]  # the neighbours of a kettle first
