"""Requests of the past are judged by what the shop lists: what has sold out since could be had then."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.events import LoggedEvent, to_table
from feature_repo.schema import DAY, ITEM_SCHEMA, MINUTE, Item
from feature_repo.settings import Settings
from serving.bundle import Availability, Bundle
from serving.bundle_files import write_bundle
from serving.live_version import set_current
from tests.tiny_bundle import NAMES, SOLD_OUT, TRAINED_AT, tiny_bundle
from training.config import TrainingConfig
from training.dataset import Split
from training.feature_history import write_user_history
from training.judging import scores_and_verdict
from training.publish import evaluation_dir
from training.run_replays import as_replayed, read_judged
from training.training_run import Plan, TrainingRun

SHOPPERS = 100
SOLD_SINCE = "mug"
SOLD_THEN = "teapot"
"""What was sold out when the champion was trained."""
TEST = TRAINED_AT - 3 * DAY


def catalog(*, sold_out: Sequence[str] = (), without: Sequence[str] = ()) -> pa.Table:
    """The tiny shop's, in which these items are sold out, and others are no longer listed."""
    rows = [{Item.ID: name, Item.AVAILABLE: name not in sold_out} for name in NAMES if name not in without]
    return pa.Table.from_pylist(rows, schema=ITEM_SCHEMA)


def run_of(settings: Settings, items: pa.Table) -> TrainingRun:
    """A run whose test part is of shoppers who view the kettle, and then SOLD_THEN or, one in ten, SOLD_SINCE."""
    events = to_table(
        LoggedEvent(
            event_id=f"e{shopper:03}-{step}",
            event_type="view",
            user_id=None,
            visitor_id=f"{shopper:03}",
            item_id=item,
            timestamp=TEST + (2 * shopper + step) * MINUTE,
            arrival_time=TEST + (2 * shopper + step) * MINUTE,
        )
        for shopper in range(SHOPPERS)
        for step, item in enumerate(["kettle", SOLD_SINCE if shopper % 10 == 0 else SOLD_THEN])
    )
    split = Split(TEST - DAY, TEST, TRAINED_AT)
    write_user_history(settings.features_dir, events, items, split)
    plan = Plan("today", TRAINED_AT, TrainingConfig(), split, len(NAMES))
    return TrainingRun.begin(settings, "run", plan, events, items)


def with_available(bundle: Bundle, names: set[str]) -> Bundle:
    return replace(bundle, availability=Availability(np.array([name in names for name in bundle.item_ids])))


def shown(bundle: Bundle) -> set[str]:
    """What a bundle may show."""
    return set(bundle.item_ids[bundle.availability.available])


@pytest.fixture
def run(settings: Settings) -> TrainingRun:
    return run_of(settings, catalog(sold_out=[SOLD_SINCE]))


@pytest.mark.parametrize("twin", [True, False])
def test_the_same_model_reaches_the_same_whatever_has_sold_out_since(
    settings: Settings, run: TrainingRun, *, twin: bool
) -> None:
    champion = with_available(tiny_bundle("yesterday"), set(NAMES) - {SOLD_THEN})
    seen = replace(champion.manifest, training_end=TEST + 1 if twin else TEST)
    write_bundle(replace(champion, manifest=seen), settings.models_dir / "yesterday")
    if twin:
        write_bundle(champion, evaluation_dir(settings.models_dir, "yesterday"))
    set_current(settings.models_dir, "yesterday")
    write_bundle(with_available(tiny_bundle("today"), set(NAMES) - {SOLD_SINCE}), run.judged)
    scores, verdict = scores_and_verdict(run, read_judged(run))
    assert scores["ranked"] == scores["champion"]
    assert scores["ranked"].recall_at_20.mean == scores["popularity"].recall_at_20.mean == 1
    assert verdict.passed


def test_a_replay_may_show_what_is_sold_out_today_but_not_what_is_not_listed(settings: Settings) -> None:
    run = run_of(settings, catalog(sold_out=[SOLD_SINCE, SOLD_OUT], without=["kettle"]))
    bundle = as_replayed(run, with_available(tiny_bundle(), set(NAMES) - {SOLD_SINCE}))
    assert shown(bundle) == set(NAMES) - {"kettle"}
    alike = [set(bundle.item_ids[row[row >= 0]]) for row in bundle.alike.items]
    assert SOLD_SINCE in set.union(*alike)
    assert "kettle" not in set.union(*alike)


def test_models_of_other_items_are_told_what_is_listed_by_its_name(run: TrainingRun) -> None:
    reverse = np.arange(len(NAMES))[::-1]
    other = tiny_bundle()
    ids = np.where(other.item_ids == "kettle", "no longer sold", other.item_ids)[reverse]
    assert shown(as_replayed(run, replace(other, item_ids=ids))) == set(NAMES) - {"kettle"}


def test_a_model_that_may_show_just_what_is_listed_stays_as_it_is(run: TrainingRun) -> None:
    bundle = with_available(tiny_bundle(), set(NAMES))
    assert as_replayed(run, bundle) is bundle
