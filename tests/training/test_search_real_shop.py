"""A mistyped title finds its product, in the catalog of a real shop."""

import random
import string

import numpy as np
import pytest

from feature_repo.catalog import read_items
from feature_repo.schema import Item
from feature_repo.settings import Settings
from serving.text_index import TextIndex
from tests.training.test_import_real_shops import import_shop

pytestmark = pytest.mark.slow

QUERIES = 200
FOUND = 190
LETTERS_PER_MISTAKE = 10


def mistyped(title: str, dice: random.Random) -> str:
    """The title with a letter lost, added, exchanged or replaced for every ten, and one at least."""
    letters = list(title.lower())
    for _ in range(max(1, len(letters) // LETTERS_PER_MISTAKE)):
        at = dice.randrange(len(letters) - 1)
        mistake = dice.choice(["lose", "add", "replace", "exchange"])
        if mistake == "lose":
            del letters[at]
        elif mistake == "add":
            letters.insert(at, dice.choice(string.ascii_lowercase))
        elif mistake == "replace":
            letters[at] = dice.choice(string.ascii_lowercase)
        else:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


def test_190_of_200_mistyped_titles_find_their_product_among_the_first_10(settings: Settings) -> None:
    import_shop(settings, "online_retail/transactions_train.parquet")
    titles = read_items(settings.catalog_dir)[Item.TITLE].to_pylist()
    index, dice = TextIndex.of(titles), random.Random(7)
    asked = dice.sample(
        [row for row, title in enumerate(titles) if len(title) >= LETTERS_PER_MISTAKE], QUERIES
    )
    found = 0
    for row in asked:
        best = np.argsort(-index.scores(mistyped(titles[row], dice)), kind="stable")[:10]
        found += row in best.tolist()
    assert found >= FOUND
