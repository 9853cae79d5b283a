"""On a shop whose truth is known: what is learned beats what is counted, and nothing beats the truth."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from feature_repo.archive import Archive
from feature_repo.arrays import Int32
from feature_repo.catalog import upsert_items
from feature_repo.schema import DAY, Event
from feature_repo.settings import Settings
from serving.bundle import Bundle
from serving.bundle_files import read_bundle
from serving.recommender import Recommender
from training.config import TrainingConfig
from training.dataset import read_inputs, read_shop
from training.evaluation.methods import baselines, evaluate, ranked_slates
from training.evaluation.metrics import CUTOFF, Scores, quality
from training.pipeline import train
from training.publish import evaluation_dir
from training.replay import Replay, replay
from training.simulation.oracle import Truth
from training.simulation.simulate import ShopSize, simulate

pytestmark = pytest.mark.slow

SIZE = ShopSize(users=2_000, items=600, events=80_000, days=60)
SEED = 1
REQUESTS = 2_500


def test_ndcg_rises_from_popularity_over_covisitation_and_the_ranker_to_the_truth(
    scores: dict[str, Scores],
) -> None:
    order = ("popularity", "covisitation", "ranked", "oracle")
    intervals = [scores[name].ndcg_at_10 for name in order]
    for worse, better in pairwise(intervals):
        assert worse.upper < better.lower, {name: str(scores[name].ndcg_at_10) for name in order}


def test_what_happened_in_the_session_is_what_makes_the_difference(scores: dict[str, Scores]) -> None:
    with_session, without = scores["ranked"].ndcg_at_10, scores["ranked without session"].ndcg_at_10
    assert without.mean < 0.6 * with_session.mean
    assert without.upper < with_session.lower


def test_what_a_training_reports_is_what_another_replay_finds(
    scores: dict[str, Scores], reported: dict[str, Scores]
) -> None:
    for name, report in reported.items():
        found = scores[name].ndcg_at_10
        assert report.ndcg_at_10.lower <= found.mean <= report.ndcg_at_10.upper, name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    simulate(folder, SIZE, seed=SEED)
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Settings:
    settings = Settings(home=tmp_path_factory.mktemp("home"), redis_url=None)
    Archive(settings.archive_dir).append(pq.read_table(folder / "events.parquet"))
    upsert_items(settings.catalog_dir, pq.read_table(folder / "items.parquet"))
    return settings


@pytest.fixture(scope="module")
def version(settings: Settings) -> tuple[str, dict[str, Scores]]:
    """A trained version and the scores that its training reports."""
    outcome = train(settings, TrainingConfig())
    return outcome.version, outcome.scores


@pytest.fixture(scope="module")
def reported(version: tuple[str, dict[str, Scores]]) -> dict[str, Scores]:
    return version[1]


@pytest.fixture(scope="module")
def scores(settings: Settings, folder: Path, version: tuple[str, dict[str, Scores]]) -> dict[str, Scores]:
    """Scores of every method and of the truth, all on the very same requests of the test part."""
    bundle = read_bundle(evaluation_dir(settings.models_dir, version[0]))
    _, log = read_shop(settings)
    test_part = replay(log, bundle.manifest.training_end, 2**62, settings.window_size, 90 * DAY)
    known = bundle.items.first_seen[test_part.wanted] >= 0  # each request wants one item
    requests = test_part.take(np.flatnonzero(known)).with_window().sample(REQUESTS, seed=3)
    ranked = ranked_slates(Recommender(bundle, settings.candidates))
    found = {name: evaluate(requests, bundle, method, name) for name, method in baselines(bundle).items()}
    found["ranked"] = evaluate(requests, bundle, ranked, "ranked")
    found["ranked without session"] = evaluate(requests.without_windows(), bundle, ranked, "no session")
    hits = true_ranks(requests, settings, bundle, folder)[:, None] == np.arange(CUTOFF)
    found["oracle"] = Scores.of(quality(hits, np.ones(len(hits), np.int64)), requests.shopper)
    return found


def true_ranks(requests: Replay, settings: Settings, bundle: Bundle, folder: Path) -> Int32:
    """Rank from 0 of each target in the true order of all items but the newest of the window."""
    truth = Truth.load(folder / "truth.npz")
    event_ids = read_inputs(settings)[0][Event.ID].to_pylist()
    chances = truth.scores([event_ids[row] for row in requests.log.row[requests.stop]])
    column = {item: number for number, item in enumerate(truth.item_ids)}
    queries = requests.queries(bundle, k=1)
    ranks = np.zeros(len(requests), np.int32)
    for number, (query, target) in enumerate(zip(queries, requests.wanted, strict=True)):
        chances[number, [column[bundle.item_ids[item]] for item in query.excluded]] = 0
        own = chances[number, column[requests.log.item_ids[target]]]
        ranks[number] = np.count_nonzero(chances[number] > own)
    return ranks
