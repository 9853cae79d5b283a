"""A search finds what was meant first, and brings up what the shopper has just clicked the like of."""

import random

import numpy as np
import pytest

from feature_repo.arrays import Int32
from feature_repo.schema import MINUTE, EventType
from feature_repo.session_window import WindowEvent
from feature_repo.settings import Settings
from serving.bundle import Bundle
from serving.live_version import read_live_bundle
from serving.placements import SHIPPED, read_placements
from serving.query import Question
from serving.recommender import Recommender
from tests.training.conftest import FAST, TrainedShop
from tests.training.test_import_real_shops import import_shop
from tests.training.test_search_real_shop import FOUND, LETTERS_PER_MISTAKE, QUERIES, mistyped
from training.pipeline import train

RESULTS = 100
FIRST = 10
CLICKS = 3
KEPT = 0.95
"""Share of what strangers find that who has clicked something else must find, too."""
FEWEST_OF_A_KIND = 8
"""Among the results, so that some are left that were not clicked."""


class Searches:
    """Mistyped titles of a shop, searched by strangers and by shoppers who have just clicked some of a kind."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._recommender = Recommender(bundle, Settings().candidates)
        self._plan = read_placements(SHIPPED)["search"].plan(None)
        self.found_by_strangers, self.found = 0, 0
        self.before, self.after = list[float](), list[float]()

    def ask_all(self, seed: int) -> None:
        titles = self._bundle.catalog["title"].to_pylist()
        dice = random.Random(seed)
        long = [row for row, title in enumerate(titles) if title and len(title) >= LETTERS_PER_MISTAKE]
        for row in dice.sample(long, min(QUERIES, len(long))):
            self._ask(row, mistyped(titles[row], dice), dice)

    def _ask(self, product: int, text: str, dice: random.Random) -> None:
        results = self._results(text, [])
        kinds = [kind for kind in self._kinds(results, product) if kind.size >= FEWEST_OF_A_KIND]
        self.found_by_strangers += product in results[:FIRST]
        if not kinds:  # nothing to click the like of
            self.found += product in results[:FIRST]
            return
        kind = dice.choice(kinds).tolist()
        clicked = dice.sample(kind, CLICKS)
        again = self._results(text, clicked)
        self.found += product in again[:FIRST]
        others = [item for item in kind if item not in clicked]
        self.before.append(mean_place(others, results))
        self.after.append(mean_place(others, again))

    def _results(self, text: str, clicked: list[int]) -> Int32:
        now = self._bundle.manifest.training_end
        clicks = [
            WindowEvent(
                now - (CLICKS - number) * MINUTE, str(number), EventType.CLICK, self._bundle.item_ids[item]
            )
            for number, item in enumerate(clicked)
        ]
        question = Question(
            events=clicks,
            shopper_key=None,
            as_of=now,
            k=RESULTS,
            text=text,
            repeat_last=True,
            plan=self._plan,
        )
        [slate] = self._recommender.recommend([question.encode(self._bundle)])
        return slate.items

    def _kinds(self, results: Int32, product: int) -> list[Int32]:
        """The results of each category; of a shop without categories, those that are like each of the results."""
        others, category = results[results != product], self._bundle.items.category
        if (category >= 0).any():
            return [others[category[others] == code] for code in np.unique(category[others])]
        alike = self._bundle.alike.items
        return [others[np.isin(others, [item, *alike[item]])] for item in others]


def mean_place(items: list[int], results: Int32) -> float:
    """What is no longer among the results stands behind them."""
    place = {item: place for place, item in enumerate(results.tolist())}
    return float(np.mean([place.get(item, RESULTS) for item in items]))


def test_a_search_brings_up_the_category_that_the_shopper_clicked(trained: TrainedShop) -> None:
    searches = Searches(read_live_bundle(trained.settings.models_dir))
    searches.ask_all(seed=7)
    assert np.mean(searches.after) < np.mean(searches.before)
    assert searches.found >= KEPT * searches.found_by_strangers


@pytest.mark.slow
def test_190_of_200_mistyped_titles_are_found_although_what_was_clicked_moves_up(settings: Settings) -> None:
    import_shop(settings, "online_retail/transactions_train.parquet")
    train(settings, FAST)
    searches = Searches(read_live_bundle(settings.models_dir))
    searches.ask_all(seed=7)
    assert searches.found >= FOUND
    assert len(searches.before) > QUERIES / 2
    moves_up = np.array(searches.after) < np.array(searches.before)
    assert moves_up.mean() > 2 / 3
    assert np.mean(searches.after) < np.mean(searches.before)
