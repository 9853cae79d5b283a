"""A training from archive to live model: what it makes, that it repeats, and that it can be taken back."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from feature_repo.archive import Archive
from feature_repo.catalog import read_items, upsert_items
from feature_repo.errors import GateRefusedError, InputError
from feature_repo.schema import DAY, EVENT_SCHEMA, Item
from feature_repo.settings import Settings
from serving.bundle import Bundle
from serving.bundle_files import read_bundle
from serving.live_version import current_version, read_live_bundle
from serving.query import Slate
from serving.ranking import Rankers
from serving.recommender import Recommender
from tests.training.conftest import FAST, TrainedShop
from tests.training.tiny_log import Happened, encoded, table
from training import judging, locks
from training.config import configured
from training.dataset import read_shop, split_by_time
from training.evaluation.methods import evaluate
from training.evaluation.metrics import Interval, Scores
from training.manifest import new_manifest
from training.pipeline import MIN_INTERACTIONS, train
from training.publish import GATE, evaluation_dir, list_models, rollback
from training.replay import replay

METHODS = {"popularity", "covisitation", "ranked without session", "ranked"}


def answers(settings: Settings, requests: int = 50) -> tuple[Bundle, list[Slate]]:
    """The live model, and its slates for shoppers of the log with and without a row of their own."""
    bundle = read_live_bundle(settings.models_dir)
    _, log = read_shop(settings)
    asked = replay(log, 0, 2**62, settings.window_size, 90 * DAY).with_window().sample(requests, seed=1)
    queries = asked.queries(bundle, k=20)
    return bundle, Recommender(bundle, settings.candidates).recommend(queries)


def log_of(shoppers: int, steps: int) -> list[Happened]:
    """Shoppers who walk through forty items, an hour a step."""
    return [
        Happened(f"s{shopper:03}", f"i{(7 * shopper + step * step) % 40:02}", 60 * step + shopper / 10)
        for shopper in range(shoppers)
        for step in range(steps)
    ]


def short_sessions(*, in_sequence: bool) -> list[Happened]:
    """Sessions of strangers, all events half a minute apart: one after the other, or all begun at one moment.

    An item is followed by the next of its row of ten, seldom by another.
    """
    dice = np.random.default_rng(3)
    happened: list[Happened] = []
    for session in range(1500):
        place, length = int(dice.integers(400)), int(dice.integers(2, 7))
        for step in range(length):
            minute = 0.5 * (len(happened) if in_sequence else step)
            happened.append(Happened(f"stranger {session}", f"i{place:03}", minute))
            row, column = divmod(place, 10)
            place = 10 * row + (column + 1) % 10 if dice.random() < 0.9 else int(dice.integers(400))
    return happened


@pytest.mark.slow
@pytest.mark.parametrize("in_sequence", [True, False])
def test_the_order_of_short_sessions_is_enough_to_learn_from_with_the_defaults(
    tmp_path: Path, *, in_sequence: bool
) -> None:
    settings = Settings(home=tmp_path, redis_url=None)
    Archive(settings.archive_dir).append(table(short_sessions(in_sequence=in_sequence)))
    outcome = train(settings, configured(settings))
    ranked = outcome.scores["ranked"]
    assert ranked.recall_at_20.mean > 0.85
    assert ranked.mrr_at_20.mean > 0.6
    bundle, slates = answers(settings)
    assert {slate.items.size for slate in slates} == {20}
    assert bundle.rankers.session is not None


@pytest.mark.slow
def test_a_training_publishes_a_model_with_its_scores_and_verdict(trained: TrainedShop) -> None:
    outcome, models = trained.outcome, trained.settings.models_dir
    bundle = read_live_bundle(models)
    assert bundle.manifest.version == outcome.version == current_version(models)
    assert set(outcome.scores) == METHODS
    assert {score.requests for score in outcome.scores.values()} == {FAST.test_requests}
    assert outcome.verdict.challenger == outcome.scores["ranked"].ndcg_at_10
    assert outcome.verdict.champion is None
    record = bundle.manifest.metrics[GATE]
    assert isinstance(record, dict)
    assert Interval(**record["challenger"]) == outcome.verdict.challenger
    assert None not in bundle.rankers


@pytest.mark.slow
def test_the_live_model_knows_all_events_and_its_twin_none_of_the_test_part(trained: TrainedShop) -> None:
    shop, log = read_shop(trained.settings)
    split = split_by_time(log.interactions(), ranker_share=FAST.ranker_share, test_share=FAST.test_share)
    models = trained.settings.models_dir
    live, twin = (
        read_bundle(path)
        for path in (models / trained.outcome.version, evaluation_dir(models, trained.outcome.version))
    )
    assert live.items.last_seen.max() == log.interactions().time.max() == live.manifest.training_end - 1
    assert twin.items.last_seen.max() < split.test == twin.manifest.training_end
    assert live.item_ids.tolist() == shop.item_ids.tolist()
    assert twin.manifest.version == live.manifest.version


@pytest.mark.slow
def test_the_second_model_is_measured_against_the_first_on_the_same_requests(
    trained: TrainedShop, tmp_path: Path
) -> None:
    settings = trained.copied_to(tmp_path / "home")
    second = train(settings, FAST)
    assert second.version > trained.outcome.version
    assert second.verdict.champion_version == trained.outcome.version
    # Same archive and seed: the challenger is its champion over again, and so are all scores.
    assert second.scores["champion"] == second.scores["ranked"]
    assert {name: second.scores[name] for name in METHODS} == trained.outcome.scores
    listed = [(model.manifest.version, model.live) for model in list_models(settings.models_dir)]
    assert listed == [(trained.outcome.version, False), (second.version, True)]


@pytest.mark.slow
def test_what_has_sold_out_since_changes_no_judgement_and_is_not_recommended(
    trained: TrainedShop, tmp_path: Path
) -> None:
    settings = trained.copied_to(tmp_path / "home")
    items = read_items(settings.catalog_dir)
    sold_out = np.arange(len(items)) % 5 == 0
    place = items.schema.get_field_index(Item.AVAILABLE)
    upsert_items(
        settings.catalog_dir, items.set_column(place, items.schema.field(place), pa.array(~sold_out))
    )
    second = train(settings, FAST)
    assert {name: second.scores[name] for name in METHODS} == trained.outcome.scores
    assert second.scores["champion"] == second.scores["ranked"]
    bundle, slates = answers(settings)
    names = set(items[Item.ID].to_numpy()[sold_out])
    assert names
    assert set(bundle.item_ids[~bundle.availability.available]) == names
    assert not names & set(np.concatenate([bundle.item_ids[slate.items] for slate in slates]))


@pytest.mark.slow
def test_rollback_gives_back_the_very_slates_and_user_vectors_from_before(
    trained: TrainedShop, tmp_path: Path
) -> None:
    settings = trained.copied_to(tmp_path / "home")
    bundle, slates = answers(settings)
    other = replace(FAST, embeddings=replace(FAST.embeddings, seed=5), ranker=replace(FAST.ranker, seed=5))
    train(settings, other, force="to have another")
    changed, other_slates = answers(settings)
    assert not np.array_equal(changed.users.embeddings, bundle.users.embeddings)
    assert any(
        one.items.tolist() != two.items.tolist() for one, two in zip(slates, other_slates, strict=True)
    )

    rollback(settings.models_dir, None)
    restored, same_slates = answers(settings)
    assert restored.manifest == bundle.manifest
    np.testing.assert_array_equal(restored.users.embeddings, bundle.users.embeddings)
    for one, two in zip(slates, same_slates, strict=True):
        assert one.items.tolist() == two.items.tolist()
        assert one.scores.tolist() == two.scores.tolist()
        np.testing.assert_array_equal(one.features, two.features)


@pytest.mark.slow
def test_a_worse_model_is_refused_and_the_live_one_stays(
    trained: TrainedShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = trained.copied_to(tmp_path / "home")

    def favour_the_champion(*arguments: object) -> Scores:
        scores = evaluate(*arguments)  # type: ignore[arg-type]
        return replace(scores, ndcg_at_10=Interval(1, 1, 1)) if arguments[-1] == "champion" else scores

    monkeypatch.setattr(judging, "evaluate", favour_the_champion)
    with pytest.raises(GateRefusedError, match=r"is worse than .*--force REASON"):
        train(settings, FAST)
    assert current_version(settings.models_dir) == trained.outcome.version
    assert [model.live for model in list_models(settings.models_dir)] == [True, False]


@pytest.mark.slow
def test_a_champion_older_than_the_test_part_is_measured_as_it_is_live(
    trained: TrainedShop, tmp_path: Path
) -> None:
    settings = trained.copied_to(tmp_path / "home")
    shutil.rmtree(evaluation_dir(settings.models_dir, trained.outcome.version))  # it needs no twin
    archive = Archive(settings.archive_dir)
    later = archive.read().to_pandas().tail(4000)
    later["timestamp"] += later["timestamp"].max() - later["timestamp"].min()
    later["event_id"] = "later-" + later["event_id"]
    archive.append(pa.Table.from_pandas(later, EVENT_SCHEMA, preserve_index=False))
    second = train(settings, FAST, force="only to compare")
    assert second.verdict.champion_version == trained.outcome.version


@pytest.mark.slow
def test_everything_is_written_under_the_home(
    trained: TrainedShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = trained.copied_to(tmp_path / "home")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    train(settings, FAST)
    assert list(elsewhere.iterdir()) == []
    kept = {"archive", "catalog", "features", "models", "registry.db", "registry.lock", "runs"}
    assert {path.name for path in settings.home.iterdir()} == kept | {locks.LOCK, locks.FEATURES_LOCK}
    assert not list(settings.runs_dir.rglob("*.pt"))
    assert list(settings.runs_dir.rglob("events.out.tfevents.*"))


@pytest.mark.slow
def test_a_shop_without_a_catalog_trains_and_answers(simulated: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, redis_url=None)
    Archive(settings.archive_dir).append(pq.read_table(simulated / "events.parquet"))
    outcome = train(settings, FAST)
    bundle, slates = answers(settings)
    assert bundle.categories == []
    assert all(slate.items.size == 20 for slate in slates)
    scores = outcome.scores
    assert scores["ranked"].ndcg_at_10.lower > scores["popularity"].ndcg_at_10.upper


def test_a_small_archive_trains_without_a_ranker(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, redis_url=None)
    Archive(settings.archive_dir).append(table(log_of(shoppers=20, steps=10)))
    assert train(settings, FAST).version == current_version(settings.models_dir)
    bundle, slates = answers(settings)
    assert bundle.rankers == Rankers(None, None)
    assert all(slate.items.size == 20 for slate in slates)


@pytest.mark.parametrize("interactions", [0, MIN_INTERACTIONS - 1])
def test_too_small_an_archive_says_what_is_needed(tmp_path: Path, interactions: int) -> None:
    settings = Settings(home=tmp_path, redis_url=None)
    if interactions:
        Archive(settings.archive_dir).append(table(log_of(shoppers=20, steps=10)[:interactions]))
    expected = f"holds {interactions} interactions .* needs {MIN_INTERACTIONS}: .*`freshet import`"
    with pytest.raises(InputError, match=expected):
        train(settings, FAST)
    assert not settings.models_dir.exists()


def test_a_second_training_of_a_home_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, redis_url=None)
    with FileLock(tmp_path / locks.LOCK), pytest.raises(InputError, match="another training runs"):
        train(settings, FAST)


def test_the_parts_of_time_hold_the_shares_asked_for() -> None:
    active = encoded(log_of(shoppers=50, steps=20)).interactions()
    split = split_by_time(active, ranker_share=0.2, test_share=0.1)
    counts = [
        np.count_nonzero((active.time >= start) & (active.time < end))
        for start, end in ((0, split.ranker), (split.ranker, split.test), (split.test, split.end))
    ]
    assert np.array(counts) / len(active) == pytest.approx([0.7, 0.2, 0.1], abs=0.01)


@pytest.mark.parametrize("found", [None, "/bin/false"])
def test_without_a_git_revision_a_model_is_made_all_the_same(
    monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: found)
    assert new_manifest("v", 0, 0, 1).git_revision == "unknown"
