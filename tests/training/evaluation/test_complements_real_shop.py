"""What goes with an item, in the baskets of a real shop."""

from dataclasses import replace

import pytest

from feature_repo.settings import Settings
from serving.recommender import Recommender
from tests.training.conftest import FAST
from tests.training.test_import_real_shops import import_shop
from training.config import EmbeddingConfig, RankerConfig
from training.evaluation.baskets import page_of_basket
from training.evaluation.complements import COUNTS, ITEM, complements
from training.evaluation.evaluate import train_before_the_test
from training.evaluation.protocol import Protocol
from training.run_replays import read_judged

pytestmark = pytest.mark.slow

REQUESTS = 1500
LEARNED = replace(FAST, embeddings=EmbeddingConfig(epochs=2), ranker=RankerConfig(requests=3000))
"""Rankers that were trained in seconds order worse than counts do."""


def test_complements_tell_the_rest_of_a_basket_better_than_more_of_the_same_and_counts(
    settings: Settings,
) -> None:
    import_shop(settings, "online_retail/transactions_train.parquet")
    run = train_before_the_test(settings, LEARNED, Protocol.BASKET_COMPLETION)
    split = run.plan.split
    asked = page_of_basket(run.log, split.test, split.end, settings).sample(REQUESTS, seed=20)
    recommender = Recommender(read_judged(run), settings.candidates)
    found = complements(asked.with_activity(run.activity).replay, recommender, run.log.before(split.test))
    for name in (ITEM, COUNTS):
        assert found.gain[name].recall_at_20.absolute.lower > 0
        assert found.gain[name].ndcg_at_10.absolute.lower > 0
