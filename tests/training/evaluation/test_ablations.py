"""An ablation takes away what it says, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from feature_repo.ranking_features import RANKING_COLUMNS, SOURCES
from feature_repo.schema import DAY
from serving.plan import EVERYTHING
from serving.query import Query
from serving.recommender import Recommender
from tests.tiny_bundle import KNOWN_SHOPPER, NAMES, tiny_bundle, tiny_encoder, with_encoder
from tests.training.tiny_log import NOON, Happened, at, encoded
from training.evaluation.ablations import (
    FRESHET,
    NO_ACTIVITY,
    NO_ENCODER,
    NO_RANKERS,
    NO_SESSION,
    NO_USER_HISTORY,
    Ablations,
    PreparedRecommender,
    ablate,
    source_off,
)
from training.evaluation.methods import ranked_slates, slates
from training.evaluation.sources import FUSED_SIZES, SourceTally
from training.replay import Replay, replay

BUNDLE = with_encoder(tiny_bundle(), tiny_encoder())
CANDIDATES = 10


def requests() -> Replay:
    """Next-item requests of a shopper whom the bundle knows and of strangers."""
    paths = {
        KNOWN_SHOPPER.removeprefix("u:"): ["kettle", "teapot", "mug", "tray"],
        "bob": ["lamp", "bulb", "lamp", "shade"],
        "v:cy": ["desk", "chair", "kettle"],
    }
    log = [
        Happened(shopper, item, minute)
        for shopper, items in paths.items()
        for minute, item in enumerate(items)
    ]
    return replay(encoded(log), NOON, at(10**6), 64, 90 * DAY).with_window()


@pytest.fixture(scope="module")
def ablations() -> Ablations:
    return ablate(requests(), BUNDLE, CANDIDATES)


def queries() -> list[Query]:
    return requests().queries(BUNDLE, k=20)


def test_freshet_is_the_recommender_that_serves(ablations: Ablations) -> None:
    served = slates(requests(), BUNDLE, ranked_slates(Recommender(BUNDLE, CANDIDATES)), "served")
    np.testing.assert_array_equal(ablations.slates[FRESHET], served)


def test_there_is_an_ablation_of_every_part(ablations: Ablations) -> None:
    whole = {NO_RANKERS, NO_ENCODER, NO_USER_HISTORY, NO_ACTIVITY, NO_SESSION}
    parts = {*whole, *map(source_off, EVERYTHING)}
    assert set(ablations.slates) == {FRESHET, *parts}


@pytest.mark.parametrize("source", EVERYTHING)
def test_a_source_that_is_off_brings_no_candidates_and_has_no_columns(source: str) -> None:
    asked = queries()
    looked_up = [SourceTally().look_up(BUNDLE, query) for query in asked]
    without = [found.without_source(source) for found in looked_up]
    columns = [RANKING_COLUMNS.index(f"{source}_{what}") for what in ("score", "rank", "relative")]
    others = [column for column in range(3 * len(SOURCES)) if column not in columns]
    for slate in PreparedRecommender(BUNDLE, CANDIDATES, asked, without).recommend(asked):
        assert np.isnan(slate.features[:, columns]).all()
        brought = ~np.isnan(slate.features[:, others]).all(axis=1)
        assert brought.all()


def test_without_the_session_encoder_nothing_is_expected_and_its_source_is_off() -> None:
    asked = queries()
    looked_up = [SourceTally().look_up(BUNDLE, query).without_encoder() for query in asked]
    columns = [n for n, name in enumerate(RANKING_COLUMNS) if name.startswith("next_item_")]
    assert len(columns) == 6
    for slate in PreparedRecommender(BUNDLE, CANDIDATES, asked, looked_up).recommend(asked):
        assert np.isnan(slate.features[:, columns]).all()
    blind = Recommender(replace(BUNDLE, encoder=None), CANDIDATES)
    for slate, other in zip(
        PreparedRecommender(BUNDLE, CANDIDATES, asked, looked_up).recommend(asked),
        blind.recommend(asked),
        strict=True,
    ):
        np.testing.assert_array_equal(slate.features, other.features)


def test_without_the_rankers_the_fused_order_stands(ablations: Ablations) -> None:
    asked = queries()
    for slate, query in zip(ablations.slates[NO_RANKERS], asked, strict=True):
        recommender = Recommender(BUNDLE, CANDIDATES)
        found = recommender.filter(recommender.retrieve(query, recommender.encode(query)), query)
        assert slate[: len(found.items)].tolist() == found.items.tolist()


def test_without_the_session_all_strangers_get_the_same(ablations: Ablations) -> None:
    asked = requests()
    stranger = asked.log.shopper_keys[asked.shopper] != KNOWN_SHOPPER
    popular = ablations.slates[NO_SESSION][stranger]
    assert (popular == popular[0]).all()


def test_without_user_history_a_known_shopper_is_a_stranger(ablations: Ablations) -> None:
    asked = requests()
    known = asked.log.shopper_keys[asked.shopper] == KNOWN_SHOPPER
    np.testing.assert_array_equal(
        ablations.slates[NO_USER_HISTORY][~known], ablations.slates[FRESHET][~known]
    )
    nobody = replace(BUNDLE, shopper_keys=np.zeros(0, dtype=object))
    as_stranger = slates(asked, nobody, ranked_slates(Recommender(nobody, CANDIDATES)), "stranger")
    np.testing.assert_array_equal(ablations.slates[NO_USER_HISTORY], as_stranger)


def test_a_source_is_credited_with_what_it_finds_and_what_only_it_finds() -> None:
    [query] = requests().take(np.array([0])).queries(BUNDLE, k=20)
    tally = SourceTally()
    looked_up = tally.look_up(BUNDLE, query)
    brought = {
        name: set(found.items.tolist()) for name, found in zip(SOURCES, looked_up.retrieved, strict=True)
    }
    wanted = np.arange(len(NAMES), dtype=np.int32)
    tally.count(looked_up, wanted)
    [found] = tally.found
    for number, name in enumerate(SOURCES):
        assert set(np.flatnonzero(found[:, number]).tolist()) == brought[name]


def test_reports_on_sources_agree_with_what_was_found(ablations: Ablations) -> None:
    sources = ablations.sources
    assert list(sources) == list(EVERYTHING)
    assert sources["popular"].recall == 1  # it brings everything that is wanted here
    assert sources["popular"].milliseconds > 0
    assert all(0 <= source.alone <= source.recall <= 1 for source in sources.values())
    assert sum(source.alone for source in sources.values()) <= 1


def test_recall_after_fusion_rises_with_the_number_of_candidates(ablations: Ablations) -> None:
    recall = [ablations.fused_recall[size] for size in FUSED_SIZES]
    assert recall == sorted(recall)
    assert recall[-1] == 1  # the shop has fewer items
