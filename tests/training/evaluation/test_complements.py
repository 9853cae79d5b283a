"""What goes with an item of a basket: the placements of the tiny shop and counts, asked on the same pages."""

import numpy as np
import pytest

from feature_repo.encoded_log import EncodedLog, encode_log
from feature_repo.schema import EventType
from feature_repo.settings import Settings
from serving.recommender import Recommender
from tests.tiny_bundle import NAMES, tiny_bundle
from tests.training.tiny_log import Happened, at, table
from training.evaluation.baskets import page_of_basket
from training.evaluation.complements import COMPLEMENTS, COUNTS, ITEM, Complements, complements
from training.replay import Replay

CUT = 1000
KETTLE, TRAY = NAMES.index("kettle"), NAMES.index("tray")


def log(*baskets: str) -> EncodedLog:
    """A visit for each basket, those before CUT a buyer of their own each."""
    happened = [
        Happened(f"buyer-{number}", item, minute, EventType.PURCHASE)
        for number, basket in enumerate(baskets)
        for minute in [int(basket.split(":")[0])]
        for item in basket.split(":")[1].split()
    ]
    return encode_log(table(happened), np.array(NAMES, dtype=object))


LOG = log(
    *["1:kettle lamp", "2:kettle lamp", "3:kettle desk tray"],
    *[f"{CUT + number}:kettle tray" for number in range(20)],
)
"""Counts say lamp for the kettle, complements tray and mug, and shoppers want the tray."""


def on_the_kettles_page() -> Replay:
    asked = page_of_basket(LOG, at(CUT), at(2 * CUT), Settings()).replay
    kettle = [row for row in range(len(asked)) if asked.excluded_items(row).tolist() == [KETTLE]]
    assert 0 < len(kettle) < len(asked)
    return asked.take(np.array(kettle))


@pytest.fixture(scope="module")
def found() -> Complements:
    return complements(on_the_kettles_page(), Recommender(tiny_bundle(), 10), LOG.before(at(CUT)))


def test_every_answer_is_about_the_item_of_the_page(found: Complements) -> None:
    first = {name: scores.mrr_at_20.mean for name, scores in found.scores.items()}
    assert set(first) == {COMPLEMENTS, ITEM, COUNTS}
    assert first[COMPLEMENTS] >= 1 / 2  # the kettle has two complements
    assert first[COUNTS] == pytest.approx(1 / 3)  # lamp, then desk and tray, bought once each
    assert first[ITEM] < first[COMPLEMENTS]


def test_the_gain_is_what_complements_has_more_on_the_same_pages(found: Complements) -> None:
    for name in (ITEM, COUNTS):
        gain = found.gain[name].ndcg_at_10.absolute.mean
        assert gain == pytest.approx(
            found.scores[COMPLEMENTS].ndcg_at_10.mean - found.scores[name].ndcg_at_10.mean
        )


def test_counts_know_nothing_of_the_test_part() -> None:
    with_it = complements(on_the_kettles_page(), Recommender(tiny_bundle(), 10), LOG)
    assert with_it.scores[COUNTS].mrr_at_20.mean == 1
