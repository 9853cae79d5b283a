"""A whole evaluation of a small simulated shop, and what it refuses."""

import sys
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from feature_repo.archive import Archive
from feature_repo.catalog import upsert_items
from feature_repo.errors import InputError
from feature_repo.schema import DAY, MINUTE, EventType, Item
from feature_repo.settings import Settings
from serving.live_version import current_version
from tests.training.conftest import FAST
from tests.training.test_assemble import catalog
from tests.training.tiny_log import Happened, at, encoded, table
from training.cli import main
from training.evaluation.ablations import FRESHET
from training.evaluation.between_trainings import REFRESHED, STATIC
from training.evaluation.evaluate import Examination, evaluate, train_before_the_test
from training.evaluation.protocol import Protocol
from training.evaluation.protocols import BASKET_PERIOD, CUT, TEST_SHARE, tuned_from
from training.evaluation.report_files import FRONTIER, JSON, MARKDOWN, PLOT
from training.evaluation.tuning import POPULARITY, V_STAN
from training.run_replays import read_judged
from training.simulation.simulate import ShopSize, simulate

DAYS = DAY // MINUTE
SIZE = ShopSize(users=300, items=150, events=12_000, days=70)


def daily(days: int) -> list[Happened]:
    return [Happened("ann", "ab"[day % 2], day * DAYS, EventType.PURCHASE) for day in range(days + 1)]


def test_the_next_item_is_tested_on_the_newest_tenth_of_the_time() -> None:
    active = encoded([*daily(100), *[Happened("bob", "a", n) for n in range(1000)]]).interactions()
    split = CUT[Protocol.NEXT_ITEM](active)
    assert split.test == pytest.approx(at((1 - TEST_SHARE) * 100 * DAYS), abs=2)
    assert split.end == at(100 * DAYS) + 1
    before = active.time[active.time < split.test]
    assert (before >= split.ranker).mean() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("protocol", [Protocol.NEXT_BASKET, Protocol.BASKET_COMPLETION])
def test_baskets_are_tested_on_the_newest_four_weeks(protocol: Protocol) -> None:
    split = CUT[protocol](encoded(daily(100)).interactions())
    assert split.end - split.test == BASKET_PERIOD
    assert split.ranker < split.test


def test_baselines_are_tuned_on_what_comes_just_before_the_test() -> None:
    split = CUT[Protocol.NEXT_BASKET](encoded(daily(100)).interactions())
    assert tuned_from(Protocol.NEXT_BASKET, split) == split.test - BASKET_PERIOD
    assert tuned_from(Protocol.NEXT_ITEM, split) == split.ranker


def test_a_log_too_short_for_baskets_is_refused() -> None:
    with pytest.raises(InputError, match=r"spans 30 days, but it takes more than 56 .*--protocol next_item"):
        CUT[Protocol.NEXT_BASKET](encoded(daily(30)).interactions())


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A shop in an archive, ten weeks long."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate(folder, SIZE, seed=1)
    settings = Settings(home=tmp_path_factory.mktemp("evaluated"), redis_url=None)
    Archive(settings.archive_dir).append(pq.read_table(folder / "events.parquet"))
    upsert_items(settings.catalog_dir, pq.read_table(folder / "items.parquet"))
    return settings


@pytest.mark.slow
def test_the_model_that_is_evaluated_knows_nothing_of_the_test_part_and_is_trained_once(
    settings: Settings,
) -> None:
    run = train_before_the_test(settings, FAST, Protocol.NEXT_BASKET)
    bundle = read_judged(run)
    assert bundle.manifest.training_end == run.plan.split.test
    assert bundle.items.last_seen.max() < run.plan.split.test
    assert bundle.sessions.session_time.max() < run.plan.split.test
    trained = run.judged.stat().st_mtime_ns
    again = train_before_the_test(settings, FAST, Protocol.BASKET_COMPLETION)  # which cuts time alike
    assert (again.name, again.judged.stat().st_mtime_ns) == (run.name, trained)
    other = train_before_the_test(settings, FAST, Protocol.NEXT_ITEM)
    assert other.name != run.name
    assert current_version(settings.models_dir) is None


@pytest.fixture(scope="module")
def grocer(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A shop of 20 dishes of 6 items: a basket is 4 items of a dish, any dish as likely as another.

    Of each dish an item is sold out today, which it was not before.
    """
    rng = np.random.default_rng(1)
    baskets = [
        Happened(f"s{shopper:03}", f"dish{dish:02}-{item}", day * DAYS + shopper, EventType.PURCHASE)
        for shopper in range(150)
        for day in rng.choice(90, 8, replace=False)
        for dish in [rng.integers(20)]
        for item in rng.choice(6, 4, replace=False)
    ]
    settings = Settings(home=tmp_path_factory.mktemp("grocer"), redis_url=None)
    Archive(settings.archive_dir).append(table(baskets))
    items = [
        {Item.ID: f"dish{dish:02}-{item}", Item.AVAILABLE: item > 0}
        for dish in range(20)
        for item in range(6)
    ]
    upsert_items(settings.catalog_dir, catalog(items))
    return settings


@pytest.mark.slow
def test_half_of_a_basket_tells_the_other_half(grocer: Settings, tmp_path: Path) -> None:
    examination = Examination(Protocol.BASKET_COMPLETION, requests=200, trials=2)
    report = evaluate(grocer, FAST, examination, tmp_path)
    assert report.shown_half is not None
    assert report.conditions.requests == 200
    assert report.conditions.items == 120
    for method in (FRESHET, V_STAN):
        assert report.shown_half.gain[method].recall_at_20.absolute.lower > 0.3
        assert report.methods[method].scores.recall_at_20.mean > 0.9
    assert report.shown_half.gain[POPULARITY].recall_at_20.absolute.mean == 0
    assert report.complements is not None
    assert all(scores.recall_at_20.mean > 0.9 for scores in report.complements.scores.values())
    assert report.cold_start is None
    assert {path.name for path in tmp_path.iterdir()} == {JSON, MARKDOWN, PLOT, FRONTIER}


@pytest.mark.slow
def test_next_baskets_are_asked_of_each_customer_once(grocer: Settings, tmp_path: Path) -> None:
    report = evaluate(grocer, FAST, Examination(Protocol.NEXT_BASKET, requests=0, trials=1), tmp_path)
    assert 100 < report.conditions.requests == report.conditions.drawn_from <= 150
    assert report.conditions.ceiling == 1
    scores = {name: result.scores.recall_at_20.mean for name, result in report.methods.items()}
    assert all(0 < score < 0.5 for score in scores.values())  # nobody can know which dish is next
    assert (report.cold_start, report.shown_half, report.complements, report.between_trainings) == (None,) * 4


@pytest.mark.slow
def test_freshet_evaluate_prints_and_writes_what_it_found(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["freshet", "evaluate", "--requests", "300", "--trials", "2"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setenv("FRESHET_HOME", str(settings.home))
    monkeypatch.setenv("FRESHET_TRAINING_EPOCHS", "2")
    monkeypatch.setenv("FRESHET_TRAINING_REQUESTS", "1500")
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "Freshet against" in out
    folder = settings.home / "evaluation" / "next_item"
    assert {path.name for path in folder.iterdir()} == {JSON, MARKDOWN, PLOT, FRONTIER}
    found = orjson.loads((folder / JSON).read_bytes())
    assert found["conditions"]["command"] == " ".join(arguments)
    freshet, popularity = (found["methods"][name]["scores"]["ndcg_at_10"] for name in (FRESHET, POPULARITY))
    assert freshet["lower"] > popularity["upper"]
    groups = found["cold_start"]["by_shopper"]
    assert list(groups) == ["0", "1", "2", "3+"]
    counted = sum(groups[group][FRESHET]["requests"] for group in ("1", "2", "3+"))
    assert counted == found["conditions"]["requests"] == 300
    scores = found["between_trainings"]["scores"]
    assert {name: one["requests"] > 0 for name, one in scores.items()} == {STATIC: True, REFRESHED: True}
    assert 0 < found["between_trainings"]["refreshes"] <= 23
    assert np.isfinite(found["sources"]["popular"]["milliseconds"])
