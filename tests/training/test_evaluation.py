"""Metrics of ranks computed by hand, their intervals, and the baselines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.arrays import Float64, Int32
from feature_repo.schema import DAY
from serving.query import Query
from tests.tiny_bundle import NAMES, tiny_bundle
from tests.training.tiny_log import NOON, Happened, at, encoded
from training.evaluation import (
    CUTOFF,
    NDCG_CUTOFF,
    NOT_FOUND,
    baselines,
    bootstrap,
    evaluate,
    score_ranks,
    to_text,
)
from training.replay import Replay, replay


def ranks(*values: int) -> Int32:
    return np.array(values, np.int32)


def shoppers(count: int) -> Int32:
    return np.arange(count, dtype=np.int32)


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


def test_metrics_are_those_computed_by_hand() -> None:
    scores = score_ranks(ranks(0, 2, NDCG_CUTOFF, CUTOFF - 1, CUTOFF, NOT_FOUND), shoppers(6))
    assert scores.requests == 6
    assert scores.recall_at_20.mean == pytest.approx(4 / 6)
    assert scores.mrr_at_20.mean == pytest.approx((1 + 1 / 3 + 1 / 11 + 1 / 20) / 6)
    assert scores.ndcg_at_10.mean == pytest.approx((1 + 1 / 2) / 6)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=60), st.lists(st.floats(0, 1), min_size=60, max_size=60)
)
def test_an_interval_covers_the_mean_when_there_are_shoppers_enough(
    codes: list[int], drawn: list[float]
) -> None:
    shopper = np.array([*codes, *range(20)], np.int32)
    values = np.array([*drawn[: len(codes)], *np.linspace(0, 1, 20)])
    interval = bootstrap(values, shopper)
    assert interval.lower <= interval.mean <= interval.upper
    assert interval.mean == pytest.approx(values.mean())


@pytest.mark.parametrize("count", [1, 2, 50])
def test_the_interval_of_a_constant_has_no_width(count: int) -> None:
    interval = bootstrap(np.full(3 * count, 0.25), np.repeat(shoppers(count), 3))
    assert (interval.lower, interval.mean, interval.upper) == pytest.approx((0.25, 0.25, 0.25))


def test_an_interval_has_the_width_that_statistics_expect() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=4000)
    interval = bootstrap(values, shoppers(4000))
    expected = 2 * 1.96 * values.std() / 4000**0.5
    assert interval.upper - interval.lower == pytest.approx(expected, rel=0.1)


def test_requests_of_one_shopper_that_go_together_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    values: Float64 = np.repeat(rng.random(100), 25)
    alike = bootstrap(values, np.repeat(shoppers(100), 25))
    taken_for_independent = bootstrap(values, shoppers(2500))
    ratio = (alike.upper - alike.lower) / (taken_for_independent.upper - taken_for_independent.lower)
    assert ratio == pytest.approx(5, rel=0.2)  # the square root of 25


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(1).random(50)
    assert bootstrap(values, shoppers(50)) == bootstrap(values, shoppers(50))


def test_no_requests_have_no_scores() -> None:
    interval = bootstrap(np.zeros(0), shoppers(0))
    assert np.isnan([interval.mean, interval.lower, interval.upper]).all()


def test_a_method_is_scored_by_where_it_places_the_target() -> None:
    bundle = tiny_bundle()
    order = [NAMES.index(name) for name in ("lamp", "desk", "mug")]

    def always_the_same(queries: list[Query]) -> list[Int32]:
        return [np.array(order, np.int32) for _ in queries]

    found = requests("kettle lamp", "kettle mug", "kettle tray", "kettle unknown")
    scores = evaluate(found, bundle, always_the_same, "fixed")
    assert scores.mrr_at_20.mean == pytest.approx((1 + 1 / 3) / 4)
    assert scores.recall_at_20.mean == pytest.approx(2 / 4)


def test_popularity_answers_with_the_most_popular_that_may_be_shown() -> None:
    bundle = tiny_bundle()
    [[query]] = requests("mug lamp").queries(bundle, k=3)
    assert [NAMES[item] for item in baselines(bundle)["popularity"]([query])[0]] == ["kettle", "lamp", "desk"]


def test_covisitation_answers_with_neighbours_and_then_with_the_popular() -> None:
    bundle = tiny_bundle()
    [[query]] = requests("kettle lamp").queries(bundle, k=4)
    answer = [NAMES[item] for item in baselines(bundle)["covisitation"]([query])[0]]
    assert answer == ["teapot", "mug", "lamp", "desk"]  # the neighbours of a kettle first


def test_the_table_has_a_line_per_method_with_mean_and_bounds() -> None:
    text = to_text({"popularity": score_ranks(ranks(0, 0), shoppers(2))})
    header, line = text.splitlines()
    assert header.split() == ["method", "requests", "recall_at_20", "mrr_at_20", "ndcg_at_10"]
    assert line.split() == ["popularity", "2", *["1.0000", "[1.0000,", "1.0000]"] * 3]
