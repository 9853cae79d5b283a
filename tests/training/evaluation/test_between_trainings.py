"""A shop whose pairs change on the day after the training: who refreshes knows the new ones."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.schema import DAY, HOUR, ITEM_SCHEMA, MINUTE, Item
from feature_repo.settings import Settings
from serving.bundle import Bundle
from tests.training.test_assemble import catalog
from tests.training.test_refresh import trained_tower
from tests.training.tiny_log import NOON, Happened, table
from training.assemble import assemble
from training.config import TrainingConfig
from training.dataset import Split, encode
from training.evaluation.between_trainings import REFRESHED, STATIC, between_trainings
from training.feature_history import write_user_history
from training.learned import Learned
from training.manifest import new_manifest
from training.run_replays import as_replayed
from training.training_run import Plan, TrainingRun

TEST = NOON + 2 * DAY
NO_CATALOG = ITEM_SCHEMA.empty_table()
HOURS = HOUR // MINUTE
HOURS_ASKED = 4
BEFORE = [
    Happened(f"s{shopper}", f"{kind} {pair}", pair * HOURS + shopper * 2 + step)
    for pair in range(10)
    for shopper in range(10)
    for step, kind in enumerate(("cup", "lamp"))
]


def day(*, new: bool) -> list[Happened]:
    """In the first hours of the next day, six strangers each meet one of two pairs, new or of before."""
    begin = (TEST - NOON) // MINUTE
    return [
        Happened(f"t{hour}-{n}", f"{kind} {'new' if new else ''}{n % 2}", begin + hour * HOURS + 5 * n + step)
        for hour in range(HOURS_ASKED)
        for n in range(6)
        for step, kind in enumerate(("cup", "lamp"))
    ]


def run_of(
    settings: Settings, log: list[Happened], items: pa.Table = NO_CATALOG
) -> tuple[TrainingRun, Bundle]:
    """A run on a log and a catalog, and the bundle of it as of TEST, as it is replayed."""
    events = table([*BEFORE, *log])
    split = Split(NOON + DAY, TEST, TEST + 3 * DAY)
    write_user_history(settings.features_dir, events, items, split)
    plan = Plan("v1", NOON, TrainingConfig(), split, len(encode(events, items)[1].item_ids))
    run = TrainingRun.begin(settings, "run", plan, events, items)
    learned = trained_tower(run.shop.item_ids)
    met = np.bincount(run.log.before(TEST).interactions().item, minlength=len(run.shop.item_ids)) > 0
    learned = replace(
        learned, embeddings=learned.embeddings * met[:, None], item_weight=learned.item_weight * met
    )
    manifest = new_manifest("v1", NOON, NOON, TEST)
    bundle = assemble(run.log, run.shop, manifest, Learned(learned, None), as_of=TEST)
    return run, as_replayed(run, bundle)


def test_new_pairs_are_found_from_the_next_hour_on(settings: Settings) -> None:
    found = between_trainings(*run_of(settings, day(new=True)), size=0, seed=1)
    assert found is not None
    assert found.scores[STATIC].requests == found.scores[REFRESHED].requests == HOURS_ASKED * 6
    assert found.never_met_share == 1
    assert found.refreshes == HOURS_ASKED - 1
    assert found.scores[STATIC].recall_at_20.mean == 0
    assert found.scores[REFRESHED].recall_at_20.mean == pytest.approx(1 - 1 / HOURS_ASKED)
    assert found.gain.ndcg_at_10.absolute.lower > 0.5


def test_where_nothing_changes_nothing_is_gained(settings: Settings) -> None:
    found = between_trainings(*run_of(settings, day(new=False)), size=20, seed=1)
    assert found is not None
    assert found.scores[STATIC].requests == 20
    assert found.never_met_share == 0
    assert found.scores[REFRESHED].recall_at_20.mean == found.scores[STATIC].recall_at_20.mean == 1


def test_what_has_sold_out_since_could_be_had_on_that_day(settings: Settings) -> None:
    names = [f"{kind} {pair}" for pair in range(10) for kind in ("cup", "lamp")]
    sold_out = catalog([{Item.ID: name, Item.AVAILABLE: name.startswith("cup")} for name in names])
    found = between_trainings(*run_of(settings, day(new=False), sold_out), size=0, seed=1)
    assert found is not None
    assert found.scores[REFRESHED].recall_at_20.mean == found.scores[STATIC].recall_at_20.mean == 1


def test_the_day_begins_when_the_shop_is_open_again(settings: Settings) -> None:
    later = [happened._replace(minute=happened.minute + 30 * HOURS) for happened in day(new=False)]
    found = between_trainings(*run_of(settings, later), size=0, seed=1)
    assert found is not None
    assert found.scores[STATIC].requests == HOURS_ASKED * 6


def test_where_nobody_comes_back_nothing_is_found(settings: Settings) -> None:
    assert between_trainings(*run_of(settings, []), size=0, seed=1) is None
